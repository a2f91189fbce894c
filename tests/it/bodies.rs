//! Request bodies written by hand, so that tests say every byte and owe nothing to our own encoders.

/// A series of a remote-write 1.0 request.
pub(super) struct Series<'a> {
    pub(super) labels: Vec<(&'a str, &'a str)>,
    /// Milliseconds and values.
    pub(super) samples: Vec<(i64, f64)>,
}

pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited protobuf field.
pub(super) fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A `prometheus.WriteRequest`, not compressed.
pub(super) fn write_request(series: &[Series<'_>]) -> Vec<u8> {
    let mut request = Vec::new();
    for one in series {
        let mut body = Vec::new();
        for (name, value) in &one.labels {
            let mut label = Vec::new();
            field(1, name.as_bytes(), &mut label);
            field(2, value.as_bytes(), &mut label);
            field(1, &label, &mut body);
        }
        for (t, value) in &one.samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(2 << 3);
            varint(*t as u64, &mut sample);
            field(2, &sample, &mut body);
        }
        field(1, &body, &mut request);
    }
    request
}

/// A remote-write 1.0 body.
pub(super) fn remote_write(series: &[Series<'_>]) -> Vec<u8> {
    snappy(&write_request(series))
}

pub(super) fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}
