//! Answers made smaller, piece by piece. Gzip unless a client says that it would rather have zstd:
//! browsers offer zstd to Grafana, which passes the offer on and then cannot read the answer.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

/// How an answer is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// The level of zstd: 1 is near gzip's fastest in size, at a third of its time.
const ZSTD_LEVEL: i32 = 1;

impl Coding {
    /// What to use for a client that sends these `Accept-Encoding` headers.
    pub fn accepted<'h>(headers: impl Iterator<Item = &'h str>) -> Self {
        let (mut gzip, mut zstd, mut any, mut plain) = (None, None, None, None);
        for offer in headers.flat_map(|header| header.split(',')) {
            let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
            let weight = quality(weight);
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "zstd" => zstd = Some(weight),
                "identity" => plain = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
        let gzip = gzip.or(any).unwrap_or_default();
        let zstd = zstd.unwrap_or_default();
        match () {
            // Only who says so would rather have an answer as it is.
            () if plain.unwrap_or_default() > gzip.max(zstd) => Self::Identity,
            () if zstd > gzip => Self::Zstd,
            () if gzip > 0 => Self::Gzip,
            () => Self::Identity,
        }
    }

    /// The name in `Content-Encoding`; `None` for identity.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// `q=0.5` in thousandths; a weight that cannot be read is that of no weight.
fn quality(text: &str) -> u32 {
    let weight = |part: &str| {
        let (name, value) = part.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("q") { value.trim().parse::<f64>().ok() } else { None }
    };
    let value = text.split(';').find_map(weight);
    value.map_or(1_000, |value| (value.clamp(0.0, 1.0) * 1_000.0) as u32)
}

/// Packs the pieces of one answer.
pub struct Packer(Inner);

enum Inner {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Packer {
    /// A packer for one answer.
    ///
    /// # Errors
    /// When zstd cannot have its memory.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Identity => Inner::Identity,
            Coding::Gzip => Inner::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Coding::Zstd => Inner::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
        }))
    }

    /// Takes the next piece and gives what is ready to be sent, which may be nothing.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn pack(&mut self, piece: Vec<u8>) -> io::Result<Vec<u8>> {
        match &mut self.0 {
            Inner::Identity => Ok(piece),
            Inner::Gzip(encoder) => {
                encoder.write_all(&piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Inner::Zstd(encoder) => {
                encoder.write_all(&piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// What is left to be sent after the last piece.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Inner::Identity => Ok(Vec::new()),
            Inner::Gzip(encoder) => encoder.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::decompress::{Encoding, decompress};

    #[test]
    fn zstd_is_for_those_who_would_rather_have_it() {
        for (headers, coding) in [
            ("", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("gzip, deflate, br, zstd", Coding::Gzip),
            ("zstd", Coding::Zstd),
            ("gzip;q=0.5, zstd;q=0.8", Coding::Zstd),
            ("GZIP ; q=0", Coding::Identity),
            ("zstd;q=0", Coding::Identity),
            ("*", Coding::Gzip),
            ("br, identity", Coding::Identity),
            ("gzip;q=x", Coding::Gzip),
            ("gzip;Q=0", Coding::Identity),
            ("identity;q=1, gzip;q=0.5", Coding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Coding::Gzip),
            ("identity, *;q=0.1", Coding::Identity),
            ("identity;q=0", Coding::Identity),
            ("zstd, identity;q=0.1", Coding::Zstd),
        ] {
            assert_eq!(Coding::accepted(std::iter::once(headers)), coding, "{headers:?}");
        }
        assert_eq!(Coding::accepted(["br", "gzip"].into_iter()), Coding::Gzip);
    }

    #[test]
    fn pieces_come_back_as_a_whole() {
        for (coding, encoding) in
            [(Coding::Identity, Encoding::Identity), (Coding::Gzip, Encoding::Gzip), (Coding::Zstd, Encoding::Zstd)]
        {
            let mut packer = Packer::new(coding).unwrap();
            let (mut sent, mut whole) = (Vec::new(), Vec::new());
            for n in 0..100u32 {
                let piece = format!("piece {n} ").repeat(200).into_bytes();
                whole.extend_from_slice(&piece);
                sent.extend(packer.pack(piece).unwrap());
            }
            sent.extend(packer.finish().unwrap());
            assert_eq!(decompress(encoding, &sent, 1 << 20).unwrap(), whole, "{coding:?}");
        }
    }
}
