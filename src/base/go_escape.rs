//! Escapes in strings as Go has them.
//! Spec: https://go.dev/ref/spec#Rune_literals

/// What an escape stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaped {
    /// A character.
    Char(char),
    /// A byte, which with others may be one.
    Byte(u8),
}

/// Reads an escape whose backslash is read already; `None` when there is no such escape. Single and double
/// quotes may both be escaped, though Go lets either stand only in a literal of its kind.
pub fn escape(chars: &mut impl Iterator<Item = char>) -> Option<Escaped> {
    let c = chars.next()?;
    let mut digits = |count: usize, radix: u32, first: u32| {
        (0..count).try_fold(first, |sum, _| sum.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?))
    };
    Some(Escaped::Char(match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'v' => '\x0b',
        '\\' | '"' | '\'' => c,
        'x' => return u8::try_from(digits(2, 16, 0)?).ok().map(Escaped::Byte),
        '0'..='7' => return u8::try_from(digits(2, 8, c.to_digit(8)?)?).ok().map(Escaped::Byte),
        'u' => char::from_u32(digits(4, 16, 0)?)?,
        'U' => char::from_u32(digits(8, 16, 0)?)?,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_go() {
        for (text, stands_for) in [
            ("n", Some(Escaped::Char('\n'))),
            ("v", Some(Escaped::Char('\x0b'))),
            ("\\", Some(Escaped::Char('\\'))),
            ("'", Some(Escaped::Char('\''))),
            ("xfF", Some(Escaped::Byte(255))),
            ("377", Some(Escaped::Byte(255))),
            ("400", None),
            ("08", None),
            ("u00e4", Some(Escaped::Char('ä'))),
            ("U0001F600", Some(Escaped::Char('😀'))),
            ("ud800", None),
            ("UFFFFFFFF", None),
            ("UFFFFFFFFF", None),
            ("x1", None),
            ("q", None),
            ("", None),
        ] {
            assert_eq!(escape(&mut text.chars()), stands_for, "{text}");
        }
    }
}
