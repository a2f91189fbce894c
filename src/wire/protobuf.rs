//! Reads protobuf's wire format, field by field, without copies; writes it for tests and for the
//! transcoder of OTLP/JSON. Spec: <https://protobuf.dev/programming-guides/encoding/>.

use super::error::WireError;
use crate::base::varint;

pub use crate::base::varint::{put as put_varint, unzigzag as zigzag, zigzag as zigzagged};

/// One field's value as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// The fields of one message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

fn malformed(what: &str) -> WireError {
    WireError::malformed("protobuf", what)
}

impl<'a> Reader<'a> {
    /// The fields of `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next field's number and value; `None` at the end.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for what is no field.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| malformed("field number out of range"))?;
        if number == 0 {
            return Err(malformed("field number zero"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| malformed("length out of range"))?;
                let (head, rest) =
                    self.0.split_at_checked(length).ok_or_else(|| malformed("a field is longer than its message"))?;
                self.0 = rest;
                Value::Bytes(head)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(malformed("unknown wire type")),
        };
        Ok(Some((number, value)))
    }

    /// A bare varint, as in packed fields.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when it is cut short or over ten bytes.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let (value, rest) = varint::take(self.0).ok_or_else(|| malformed("a varint is cut short or too long"))?;
        self.0 = rest;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(|| malformed("a number is cut short"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// A bare little-endian double, as in packed fields.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when it is cut short.
    pub fn double(&mut self) -> Result<f64, WireError> {
        Ok(f64::from_le_bytes(self.array()?))
    }
}

impl<'a> Value<'a> {
    /// A string, message or packed field.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for another wire type.
    #[inline]
    pub fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(malformed("a field has the wrong wire type")),
        }
    }

    /// A varint: uint64, or int64 when cast.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for another wire type.
    #[inline]
    pub fn varint(self) -> Result<u64, WireError> {
        match self {
            Self::Varint(value) => Ok(value),
            Self::Bytes(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(malformed("a field has the wrong wire type")),
        }
    }

    /// An int64.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for another wire type.
    #[inline]
    pub fn int(self) -> Result<i64, WireError> {
        self.varint().map(u64::cast_signed)
    }

    /// A sint32.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for another wire type or a number out of range.
    pub fn sint32(self) -> Result<i32, WireError> {
        i32::try_from(zigzag(self.varint()?)).map_err(|_| malformed("a 32-bit number is out of range"))
    }

    /// A uint32.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for another wire type or a number out of range.
    pub fn uint32(self) -> Result<u32, WireError> {
        u32::try_from(self.varint()?).map_err(|_| malformed("a 32-bit number is out of range"))
    }

    /// A double.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for another wire type.
    #[inline]
    pub fn double(self) -> Result<f64, WireError> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            Self::Bytes(_) | Self::Varint(_) | Self::Fixed32(_) => Err(malformed("a field has the wrong wire type")),
        }
    }
}

/// Adds a varint field.
pub fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Adds a 64-bit field: fixed64, sfixed64 or double, as bits.
pub fn put_fixed64(out: &mut Vec<u8>, number: u32, bits: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Adds a double field.
pub fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_fixed64(out, number, value.to_bits());
}

/// Adds a fixed32 field.
pub fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    put_varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Adds a string, bytes or message field.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Adds a message field that `fill` writes.
pub fn put_message(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::new();
    fill(&mut message);
    put_bytes(out, number, &message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_written() {
        let mut out = Vec::new();
        put_uint(&mut out, 1, u64::MAX);
        put_double(&mut out, 2, -0.5);
        put_bytes(&mut out, 300, b"x");
        put_fixed32(&mut out, 4, 7);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.field().unwrap(), Some((1, Value::Varint(u64::MAX))));
        assert_eq!(reader.field().unwrap().unwrap().1.double().unwrap(), -0.5);
        assert_eq!(reader.field().unwrap(), Some((300, Value::Bytes(b"x"))));
        assert_eq!(reader.field().unwrap(), Some((4, Value::Fixed32(7))));
        assert_eq!(reader.field().unwrap(), None);
    }

    #[test]
    fn zigzag_is_undone() {
        for value in [0, -1, 1, i64::MIN, i64::MAX, -300] {
            assert_eq!(zigzag(zigzagged(value)), value);
        }
    }

    #[test]
    fn a_length_beyond_the_message_is_an_error() {
        assert!(Reader::new(&[0x0a, 0x05, 0x00]).field().is_err());
        assert!(Reader::new(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).field().is_err());
        assert!(Reader::new(&[0xff; 11]).field().is_err());
        assert!(Reader::new(&[0x0b]).field().is_err(), "groups are not used by any format here");
    }
}
