//! The level that a line's text names: at a key of a JSON object or of logfmt pairs, else as the first word that is
//! one. What counts as a key, a pair, a word is as Loki 3.7 has it. At most two passes over a line, no allocation.

use memchr::{memchr, memchr2, memchr3};

/// Labels, metadata and keys that give the level, best first.
const NAMES: &[&str] = &[
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

/// How many objects are looked into: that of the line, and those right in it.
const OBJECTS_MAX: usize = 2;

/// Which of the names that give a level this is, 0 the best; `None` for other names.
pub(super) fn rank(name: &str) -> Option<usize> {
    match name.as_bytes().first() {
        Some(b'l' | b'L' | b's' | b'S') => NAMES.iter().position(|known| *known == name),
        _ => None,
    }
}

/// The level that a word stands for, whatever its case; `None` for other words.
pub(super) fn normal(word: &[u8]) -> Option<&'static str> {
    const WORDS: &[(&str, &str)] = &[
        ("info", "info"),
        ("error", "error"),
        ("debug", "debug"),
        ("warn", "warn"),
        ("warning", "warn"),
        ("trace", "trace"),
        ("critical", "critical"),
        ("fatal", "fatal"),
        ("err", "error"),
        ("inf", "info"),
        ("wrn", "warn"),
        ("dbg", "debug"),
        ("trc", "trace"),
        ("information", "info"),
    ];
    WORDS.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(word)).map(|(_, level)| *level)
}

/// The level that a line's text names, `unknown` when there is none.
pub(super) fn level(line: &str) -> &'static str {
    let at_key = if looks_like_json(line) {
        Json(line.as_bytes()).object(1).flatten()
    } else if memchr(b'=', line.as_bytes()).is_some() {
        in_logfmt(line.as_bytes())
    } else {
        None
    };
    at_key.and_then(normal).or_else(|| in_words(line.as_bytes())).unwrap_or("unknown")
}

fn looks_like_json(line: &str) -> bool {
    line.trim_start().starts_with('{') && line.trim_end().ends_with('}')
}

/// What is left of a JSON text. Its methods read one thing and say `None` where there is something else: what
/// follows that is not looked at.
struct Json<'a>(&'a [u8]);

impl<'a> Json<'a> {
    /// Reads an object up to the first key that gives a level as a string, and says what that string is.
    fn object(&mut self, depth: usize) -> Option<Option<&'a [u8]>> {
        self.byte(b'{')?;
        if self.byte(b'}').is_some() {
            return Some(None);
        }
        loop {
            let key = self.string()?;
            self.byte(b':')?;
            match self.ahead()? {
                b'"' => {
                    let text = self.string()?;
                    if std::str::from_utf8(key).is_ok_and(|key| rank(key).is_some()) {
                        return Some(Some(text));
                    }
                }
                b'{' if depth < OBJECTS_MAX => {
                    if let Some(found) = self.object(depth + 1)? {
                        return Some(Some(found));
                    }
                }
                b'{' => self.block(b'{', b'}')?,
                b'[' => self.block(b'[', b']')?,
                _ => self.scalar()?,
            }
            if self.byte(b'}').is_some() {
                return Some(None);
            }
            self.byte(b',')?;
        }
    }

    /// The next byte that is no blank, which stays.
    fn ahead(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        let found = self.ahead()? == wanted;
        found.then(|| self.skip(1))
    }

    fn skip(&mut self, bytes: usize) {
        self.0 = self.0.get(bytes..).unwrap_or_default();
    }

    /// A string, escapes left as they are.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.byte(b'"')?;
        let end = quoted(self.0)?;
        let text = self.0.get(..end);
        self.skip(end + 1);
        text
    }

    /// All up to the bracket that closes this one.
    fn block(&mut self, open: u8, close: u8) -> Option<()> {
        let mut depth = 0usize;
        loop {
            let at = memchr3(b'"', open, close, self.0)?;
            let found = self.0.get(at).copied()?;
            self.skip(at + 1);
            if found == b'"' {
                let end = quoted(self.0)?;
                self.skip(end + 1);
                continue;
            }
            depth = if found == open { depth + 1 } else { depth.checked_sub(1)? };
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Option<()> {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']');
        let end = self.0.iter().position(ends)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        let known = matches!(text, b"true" | b"false" | b"null" | [b'-' | b'0'..=b'9', ..]);
        known.then_some(())
    }
}

/// Where the quote is that closes a string.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// The value of the best key that gives a level, whatever its case; of equal keys the first counts.
fn in_logfmt(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line;
    let mut found: Option<(usize, &[u8])> = None;
    while let Some((key, value)) = pair(&mut rest) {
        if let Some(rank) = NAMES.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(key))
            && found.is_none_or(|(best, _)| rank < best)
        {
            found = Some((rank, value));
            if rank == 0 {
                break;
            }
        }
    }
    found.map(|(_, value)| value)
}

/// The next `key=value`, `key="value"` or `key`; `None` at the end, and at what is none of them.
fn pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let text = rest.get(rest.iter().position(|byte| *byte > b' ')?..)?;
    let end = text.iter().position(|byte| matches!(byte, b'=' | b'"' | ..=b' ')).unwrap_or(text.len());
    let (key, after) = text.split_at_checked(end)?;
    let value = match after {
        [b'=', ..] if key.is_empty() => return None,
        [b'=', b'"', value @ ..] => {
            let end = quoted(value)?;
            let (value, after) = value.split_at_checked(end)?;
            *rest = after.get(1..).unwrap_or_default();
            return escapes_are_known(value).then_some((key, value));
        }
        [b'=', value @ ..] => value,
        [b'"', ..] => return None,
        [..] => {
            *rest = after;
            return Some((key, b""));
        }
    };
    let end = value.iter().position(|byte| matches!(byte, b'=' | b'"' | ..=b' ')).unwrap_or(value.len());
    let (value, after) = value.split_at_checked(end)?;
    *rest = after;
    let ends = !matches!(after.first(), Some(b'=' | b'"'));
    ends.then_some((key, value))
}

/// Whether each backslash in a quoted value begins something.
fn escapes_are_known(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some(at) = memchr(b'\\', rest) {
        let known = match rest.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'\'' | b'b' | b'f' | b'n' | b'r' | b't') => true,
            Some(b'u') => rest.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            _ => false,
        };
        if !known {
            return false;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    true
}

/// A byte after which a word may begin.
const OPENS: u8 = 1;
/// A byte with which a level begins; the same bit, one to the left.
const BEGINS: u8 = OPENS << 1;
/// A byte before which a word may end.
const ENDS: u8 = 4;

/// What each byte is to a word.
const BYTES: [u8; 256] = {
    const fn mark(mut bytes: [u8; 256], which: &[u8], mark: u8) -> [u8; 256] {
        let mut at = 0;
        while at < which.len() {
            bytes[which[at] as usize] |= mark;
            at += 1;
        }
        bytes
    }
    let bytes = mark([0; 256], b" \t\n[({\"=", OPENS);
    let bytes = mark(bytes, b" \t\n[](){}:,!\"=", ENDS);
    mark(bytes, b"tdfcewiTDFCEWI", BEGINS)
};

/// The first word that is a level and stands by itself: not in a path, a host or a name, not after a colon.
fn in_words(line: &[u8]) -> Option<&'static str> {
    let mut before = OPENS;
    for (at, byte) in line.iter().enumerate() {
        let is = BYTES[usize::from(*byte)];
        if (before << 1) & is & BEGINS != 0
            && let Some(level) = line.get(at..).and_then(word)
        {
            return Some(level);
        }
        before = is & OPENS;
    }
    None
}

/// The level that stands at the start of a text.
fn word(text: &[u8]) -> Option<&'static str> {
    // Three letters tell which words it can be: nearly all texts are done with here.
    let [a, b, c, ..] = *text else { return None };
    let words: &[(&[u8], &str)] = match &[a | 0x20, b | 0x20, c | 0x20] {
        b"inf" => &[(b"info", "info")],
        b"err" => &[(b"error", "error"), (b"err", "error")],
        b"deb" => &[(b"debug", "debug")],
        b"war" => &[(b"warn", "warn"), (b"warning", "warn")],
        b"tra" => &[(b"trace", "trace")],
        b"cri" => &[(b"critical", "critical")],
        b"fat" => &[(b"fatal", "fatal")],
        _ => return None,
    };
    let is_here = |word: &[u8]| {
        let head = text.get(..word.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(word))
            && text.get(word.len()).is_none_or(|byte| BYTES[usize::from(*byte)] & ENDS != 0)
    };
    words.iter().find(|(word, _)| is_here(word)).map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_level_has_one_name() {
        for (level, spellings) in [
            ("trace", "trace TRACE Trace trc TRC"),
            ("debug", "debug DEBUG dbg Dbg"),
            ("info", "info INFO inf information Information"),
            ("warn", "warn WARN wrn warning WARNING WaRn"),
            ("error", "error ERROR err Err"),
            ("critical", "critical CRITICAL"),
            ("fatal", "fatal FATAL"),
        ] {
            for word in spellings.split(' ') {
                assert_eq!(normal(word.as_bytes()), Some(level), "{word}");
                for key in ["level", "LEVEL", "log.level", "Severity", "SeverityText", "lvl", "severity_text"] {
                    assert_eq!(super::level(&format!(r#"{{"m":"fatal","{key}": "{word}"}}"#)), level, "{key} {word}");
                    assert_eq!(super::level(&format!("m=fatal {key}={word} x")), level, "{key}={word}");
                }
            }
        }
        for word in ["", "notice", "emerg", "crit", "alert", "panic", "warns", "17"] {
            assert_eq!(normal(word.as_bytes()), None, "{word}");
        }
    }

    fn check(cases: &[(&str, &str)]) {
        for (line, expected) in cases {
            assert_eq!(level(line), *expected, "{line}");
        }
    }

    #[test]
    fn json_is_read_at_its_keys_and_else_by_its_words() {
        check(&[
            (r#"{"msg":"a \"level\":\\","level":"WARN"}"#, "warn"),
            (r#" {"a":[{"level":"error"}],"log.level":"info"} "#, "info"),
            (r#"{"a":{"level":"error"},"level":"info"}"#, "error"),
            (r#"{"a":{"b":{"level":"error"}},"level":"info"}"#, "info"),
            (r#"{"a":{"b":{"level":"NOT"}},"c":{"Lvl":"dbg"}}"#, "debug"),
            (r#"{"a":{},"n":-1.5e3,"t":true,"z":null,"l":[1,[2]],"lvl":"trc"}"#, "trace"),
            (r#"{"level":30}"#, "unknown"),
            (r#"{"level":30,"x":"error"}"#, "error"),
            (r#"{"level":"notice","x":"error"}"#, "error"),
            (r#"{"LeVel":"error"}"#, "error"),
            (r#"{"LeVel":"wrn"}"#, "unknown"),
            (r#"{"trace_id": "4bf9", "levelname": "ERROR", "message": "x"}"#, "error"),
            (r#"{"levelname":"WARNING"}"#, "warn"),
            (r#"{"msg":"connection error"}"#, "error"),
            (r#"{"msg":"connection_error","path":"/error/"}"#, "unknown"),
            (r#"{None "level":"wrn"}"#, "unknown"),
            (r#"{"a":None,"level":"wrn"}"#, "unknown"),
            (r#"{"level":"wrn","#, "unknown"),
            ("{}", "unknown"),
            ("{", "unknown"),
        ]);
    }

    #[test]
    fn logfmt_is_read_at_its_best_key_and_else_by_its_words() {
        check(&[
            (r#"ts=1 lvl=debug msg="x error""#, "debug"),
            (r#"msg="an error" severity="Wrn" x"#, "warn"),
            ("lvl=inf severity=err SEVERITY=dbg", "error"),
            ("severity=err LEVEL=trc", "trace"),
            ("word level=dbg", "debug"),
            ("level = info", "info"),
            ("level = inf", "unknown"),
            ("level=notice", "unknown"),
            ("level=notice msg=error", "error"),
            ("Severity=warn m=x", "warn"),
            ("log.level=error m=x", "error"),
            (r#"m="a\"b" level=dbg"#, "debug"),
            (r#"m="a\u00e4b" level=dbg"#, "debug"),
            (r#"m="a\db" level=dbg"#, "unknown"),
            (r#"m="a\u00gb" level=dbg"#, "unknown"),
            ("m=\"open level=dbg", "unknown"),
            ("a=b=c level=dbg", "unknown"),
            ("say \"x\" level=dbg", "unknown"),
            ("=x level=dbg", "unknown"),
            ("level=", "unknown"),
            ("level=\"\" x=fatal", "fatal"),
        ]);
    }

    #[test]
    fn words_count_where_they_stand_by_themselves() {
        check(&[
            ("2026-01-01 [error] broken", "error"),
            ("ERROR: broken", "error"),
            ("info: fine", "info"),
            ("a warning was issued", "warn"),
            ("FATAL x", "fatal"),
            ("TRACE x", "trace"),
            ("I warn you, not debug", "warn"),
            ("this is err", "error"),
            ("disk (CRITICAL)", "critical"),
            ("error! info", "error"),
            ("E1122 10:00:00 klog", "unknown"),
            ("[Mon] [core:error] AH0012", "unknown"),
            ("x.error.y", "unknown"),
            ("/var/error/x", "unknown"),
            ("a-error-b", "unknown"),
            ("debug.example.com", "unknown"),
            ("error. Then nothing", "unknown"),
            ("terror errors infos", "unknown"),
            ("üerror errorü", "unknown"),
            ("inf wrn dbg trc information", "unknown"),
            ("", "unknown"),
        ]);
    }

    #[test]
    fn a_long_line_is_read_to_its_end() {
        assert_eq!(level(&format!("{} error", "ü€".repeat(50_000))), "error");
        let deep = format!("{{\"a\":{}{},\"level\":\"wrn\"}}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(level(&deep), "warn");
        assert_eq!(level(&format!("{}}}", "{\"a\":".repeat(50_000))), "unknown");
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[\\PC{}\\[\\]\":,=\\\\ l]{0,60}") {
            level(&line);
            level(&format!("{{{line}}}"));
            level(&format!("{{\"level\":{line}}}"));
        }

        /// What JSON a program writes, the walk over it finds what is there.
        #[test]
        fn a_level_is_found_wherever_json_has_it(before in proptest::arbitrary::any::<String>(), n in -9_i32..9) {
            let text = format!("\"{}\"", before.replace('\\', r"\\").replace('"', r#"\""#));
            let other = format!(r#"{{"k":[{{"level":{text}}},{n}, null], "deep" : {{"x": {{"level":{text}}}}}}}"#);
            let line = format!(r#"{{"a":{other}, "a2":{text},"b":{{"severity":"Wrn"}}}}"#);
            proptest::prop_assert_eq!(level(&line), "warn", "{}", line);
        }
    }
}
