//! What was refused lately: the last few kinds of it, for people to look at. A kind is a reason, a name and a sender; when
//! it is met again it is counted and moves to the front, so that one sender that goes on and on hides no other.
//! Invariants: memory is constant, [`ROWS_MAX`] rows of cut texts; of what was sent only the name of a metric or a
//! stream, or the path of a request, is kept, never labels, lines or values.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::base::in_flight::Sender;

/// Kinds that are kept.
pub const ROWS_MAX: usize = 20;
/// Bytes of a name and of an advice that are kept.
const NAME_BYTES_MAX: usize = 200;
const ADVICE_BYTES_MAX: usize = 400;

/// What was refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When it last was, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Why, in a word such as `too_old`.
    pub reason: &'static str,
    /// The first metric or stream of it, or the path that was asked for; empty where it is not known.
    pub name: String,
    /// The receiver or the kind of request.
    pub receiver: &'static str,
    /// Who sent it; `None` where no connection says so.
    pub sender: Option<Sender>,
    /// Samples, lines, spans or requests.
    pub count: u64,
    /// What to do instead, where that is known.
    pub advice: String,
}

/// The last of what was refused, the newest first.
#[derive(Debug, Default)]
pub struct RefusedLately(Mutex<VecDeque<Refused>>);

impl RefusedLately {
    /// Notes one more.
    pub fn add(&self, mut refused: Refused) {
        cut(&mut refused.name, NAME_BYTES_MAX);
        cut(&mut refused.advice, ADVICE_BYTES_MAX);
        let mut rows = self.0.lock();
        let known = rows.iter().position(|own| {
            (own.reason, &own.name, own.receiver, own.sender)
                == (refused.reason, &refused.name, refused.receiver, refused.sender)
        });
        if let Some(before) = known.and_then(|at| rows.remove(at)) {
            refused.count = refused.count.saturating_add(before.count);
        }
        rows.truncate(ROWS_MAX - 1);
        rows.push_front(refused);
    }

    /// All of them, the newest first.
    pub fn rows(&self) -> Vec<Refused> {
        self.0.lock().iter().cloned().collect()
    }
}

/// Shortens a text to at most `most` bytes of whole characters, and gives back what it took.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn refused(reason: &'static str, name: &str, sender: u8) -> Refused {
        Refused {
            at_ms: i64::from(sender),
            reason,
            name: name.to_owned(),
            receiver: "loki_push",
            sender: Some(IpAddr::from([10, 0, 0, sender]).into()),
            count: 2,
            advice: String::new(),
        }
    }

    #[test]
    fn what_is_refused_again_is_counted_and_comes_first() {
        let lately = RefusedLately::default();
        for (reason, sender) in [("too_old", 1), ("too_old", 2), ("line_too_long", 1), ("too_old", 1)] {
            lately.add(refused(reason, "shop", sender));
        }
        let rows: Vec<_> = lately.rows().iter().map(|own| (own.reason, own.at_ms, own.count)).collect();
        assert_eq!(rows, [("too_old", 1, 4), ("line_too_long", 1, 2), ("too_old", 2, 2)]);
    }

    #[test]
    fn however_much_is_refused_memory_is_constant() {
        let lately = RefusedLately::default();
        for number in 0..1_000 {
            let mut own = refused("too_old", &format!("{number}{}", "ü".repeat(100_000)), 1);
            own.advice = "x".repeat(100_000);
            lately.add(own);
        }
        let rows = lately.rows();
        assert_eq!(rows.len(), ROWS_MAX);
        assert!(rows[0].name.starts_with("999ü"), "the newest first: {}", rows[0].name);
        for own in lately.0.lock().iter() {
            let bytes = own.name.capacity() + own.advice.capacity();
            assert!((500..=NAME_BYTES_MAX + ADVICE_BYTES_MAX).contains(&bytes), "{bytes}");
        }
    }
}
