//! Addresses in lines and labels: `ip("192.168.0.1")`, `ip("10.0.0.0/8")`, `ip("10.0.0.1-10.0.0.9")`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses of one family, both ends inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpPattern {
    first: IpAddr,
    last: IpAddr,
}

impl IpPattern {
    /// An address, a network or a range.
    ///
    /// # Errors
    /// A message when `text` is none of them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let error = || format!("ip: {:?} is no address, network or range", text.chars().take(80).collect::<String>());
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| error());
        if let Some((network, bits)) = text.split_once('/') {
            return network_of(address(network)?, bits.parse().map_err(|_| error())?).ok_or_else(error);
        }
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (address(first)?, address(last)?);
            return if first.is_ipv4() == last.is_ipv4() { Ok(Self { first, last }) } else { Err(error()) };
        }
        let one = address(text)?;
        Ok(Self { first: one, last: one })
    }

    /// Whether an address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether a text, as a whole, is an address in the range.
    pub fn is(&self, text: &str) -> bool {
        text.trim().parse().is_ok_and(|address| self.contains(address))
    }

    /// Whether an address in the range stands somewhere in a line.
    pub fn found_in(&self, line: &str) -> bool {
        line.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':'))).any(|word| self.is_word(word))
    }

    fn is_word(&self, word: &str) -> bool {
        let word = word.trim_end_matches(['.', ':']);
        if word.len() < 2 {
            return false;
        }
        // `10.0.0.1:8080`: what follows the colon is a port.
        self.is(word) || word.split_once(':').is_some_and(|(host, _)| self.first.is_ipv4() && self.is(host))
    }
}

fn network_of(address: IpAddr, bits: u32) -> Option<IpPattern> {
    match address {
        IpAddr::V4(address) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let first = u32::from(address) & mask;
            Some(IpPattern { first: Ipv4Addr::from(first).into(), last: Ipv4Addr::from(first | !mask).into() })
        }
        IpAddr::V6(address) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let first = u128::from(address) & mask;
            Some(IpPattern { first: Ipv6Addr::from(first).into(), last: Ipv6Addr::from(first | !mask).into() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_ranges_hold_their_ends() {
        let network = IpPattern::parse("10.1.0.0/16").unwrap();
        assert!(network.is("10.1.255.255") && !network.is("10.2.0.0"));
        let range = IpPattern::parse("192.168.0.3-192.168.0.5").unwrap();
        assert!(range.is("192.168.0.5") && !range.is("192.168.0.6"));
        assert!(IpPattern::parse("::1/64").unwrap().is("::ffff"));
        assert!(IpPattern::parse("0.0.0.0/0").unwrap().is("255.255.255.255"));
        assert!(IpPattern::parse("300.0.0.1").is_err() && IpPattern::parse("1.1.1.1/33").is_err());
    }

    #[test]
    fn addresses_are_found_between_other_text() {
        let one = IpPattern::parse("10.0.0.1").unwrap();
        assert!(one.found_in("from 10.0.0.1:8080 to x") && one.found_in("ip=10.0.0.1."));
        assert!(!one.found_in("from 10.0.0.11 to 110.0.0.1"));
    }
}
