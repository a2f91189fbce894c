//! Templates of `line_format` and `label_format`: a subset of Go's text/template.
//! Text and `{{ actions }}`; fields `.label`, variables, pipelines, parentheses, `if`, `with`, `range`.
//! Invariant: a template never makes more than [`OUTPUT_BYTES_MAX`] bytes or takes more than
//! [`STEPS_MAX`] steps for one line, whatever functions it nests.

mod date;
mod exec;
mod functions;
mod printf;
mod read;
mod value;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::ArgumentError;
use crate::base::limits::QueryBudget;
use crate::base::pattern::{Dialect, PatternError, Regex};

pub(crate) use exec::Scope;
pub(crate) use value::Value;

use functions::Function;

/// Longest output, and longest text that a function may make, in bytes.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Most nodes and calls evaluated for one line.
const STEPS_MAX: usize = 50_000;
/// Bytes given to a call, or made by one, that are a step.
const STEP_BYTES: usize = 256;
/// Most regular expressions made of labels or lines that a template remembers.
const REGEXES_MAX: usize = 8;
/// Most memory that one of them takes, in bytes.
const REGEX_BYTES_MAX: u64 = 2 << 20;
/// Longest time that compiling one of them takes.
const COMPILE_MAX: Duration = Duration::from_secs(10);

/// A template, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
    regexes: Arc<Regexes>,
}

/// Regular expressions that the template's functions were given: those that it writes out, compiled when it was
/// parsed; and of others the last few.
#[derive(Debug, Default)]
pub(crate) struct Regexes {
    constant: Vec<(String, Result<Regex, String>)>,
    last: Mutex<Vec<(String, Regex)>>,
}

impl Regexes {
    fn get(&self, pattern: &str) -> Result<Regex, String> {
        if let Some((_, regex)) = self.constant.iter().find(|(own, _)| own == pattern) {
            return regex.clone();
        }
        let mut last = self.last.lock();
        if let Some((_, regex)) = last.iter().find(|(own, _)| own == pattern) {
            return Ok(regex.clone());
        }
        // One that is forgotten frees its memory, so that each has a budget of its own.
        let budget = QueryBudget::new(COMPILE_MAX, REGEX_BYTES_MAX, u64::MAX);
        let regex = Regex::new(pattern, Dialect::Groups, &budget).map_err(|error| error.to_string())?;
        if last.len() >= REGEXES_MAX {
            last.clear();
        }
        last.push((pattern.to_owned(), regex.clone()));
        Ok(regex)
    }
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipe),
    If { branches: Vec<(Pipe, Vec<Node>)>, otherwise: Vec<Node> },
    With { pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    Range { names: Vec<String>, pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Calls whose result is the last argument of the next, and a variable that takes the last result.
#[derive(Clone, Debug)]
struct Pipe {
    variable: Option<(String, bool)>,
    calls: Vec<Call>,
}

#[derive(Clone, Debug)]
struct Call {
    head: Operand,
    args: Vec<Operand>,
}

#[derive(Clone, Debug)]
enum Operand {
    /// `.a.b`; `.` alone has no names.
    Field(Vec<String>),
    /// `$x.a`.
    Variable(String, Vec<String>),
    Literal(Value),
    Function(&'static Function),
    /// `( .. ).a`.
    Pipe(Box<Pipe>, Vec<String>),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub(crate) fn parse(text: &str, budget: &QueryBudget) -> Result<Self, ArgumentError> {
        let read = read::read(text).map_err(ArgumentError::Text)?;
        let mut regexes = Regexes::default();
        for pattern in read.patterns {
            // One that is none is an error of each line, as it is in Loki.
            let regex = match Regex::new(&pattern, Dialect::Groups, budget) {
                Ok(regex) => Ok(regex),
                Err(error @ PatternError::Invalid { .. }) => Err(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            regexes.constant.push((pattern, regex));
        }
        if read.patterns_of_data {
            let bytes = REGEX_BYTES_MAX * REGEXES_MAX as u64;
            budget.charge(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(PatternError::from)?;
        }
        Ok(Self { nodes: read.nodes, regexes: Arc::new(regexes) })
    }

    /// The template's text for one row.
    ///
    /// # Errors
    /// A message, when a function fails or a bound is met.
    pub(crate) fn execute(&self, scope: &dyn Scope) -> Result<String, String> {
        exec::execute(self, scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Scope for Fixed {
        fn label(&self, name: &str) -> Option<&str> {
            match name {
                "a" => Some("Alpha"),
                "n" => Some("42"),
                "json" => Some(r#"{"x":{"y":[1,2.5,"z"]}}"#),
                _ => None,
            }
        }
        fn each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
            visit("a", "Alpha");
        }
        fn line(&self) -> &str {
            "the line"
        }
        fn time_ns(&self) -> i64 {
            1_700_000_000_123_456_789
        }
        fn now_ns(&self) -> i64 {
            0
        }
        fn spend(&self, _: usize) -> bool {
            true
        }
    }

    fn parse(text: &str) -> Result<Template, ArgumentError> {
        Template::parse(text, &QueryBudget::unlimited())
    }

    fn run(text: &str) -> String {
        parse(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .execute(&Fixed)
            .unwrap_or_else(|error| format!("ERR {error}"))
    }

    #[test]
    fn fields_pipes_and_functions() {
        for (template, expected) in [
            ("{{.a}}-{{ .nosuch }}-{{`x`}}", "Alpha--x"),
            ("{{ .a | ToLower | printf \"%s!%d\" | upper }}", "ERR"),
            ("{{ .a | lower | replace \"al\" \"o\" }}", "opha"),
            ("{{ contains \"line\" __line__ }}", "true"),
            ("{{ Replace .a \"a\" \"o\" 1 }}", "Alpho"),
            ("{{ add \"2\" 3 }} {{ max 1 2.5 }} {{ round -2.5 0 }} {{ int \"4.9\" }}", "5 2 -3 0"),
            ("{{ if eq .a \"Alpha\" }}y{{ else if .b }}n{{ else }}z{{ end }}", "y"),
            ("{{- if not .b }} y {{- end -}}  t", " yt"),
            ("{{ with $x := .a }}{{ $x | trunc 2 }}{{ end }}", "Al"),
            ("{{ range $i, $e := (fromJson .json).x.y }}{{ $i }}={{ $e }};{{ end }}", "0=1;1=2.5;2=z;"),
            ("{{ fromJson \"nope\" }}", "<no value>"),
            ("{{ __timestamp__ | date \"2006-01-02T15:04:05.000Z07:00\" }}", "2023-11-14T22:13:20.123Z"),
            ("{{ unixEpoch __timestamp__ }}", "1700000000"),
            ("{{ printf \"%-6s|%03d|%.2f|%q|%v\" .a 7 1.5 .n true }}", "Alpha |007|1.50|\"42\"|true"),
            ("{{ alignLeft 7 .a }}|{{ alignRight 3 .a }}", "Alpha  |pha"),
            ("{{ regexReplaceAll \"(l)(p)\" .a \"${2}$1\" }}", "Aplha"),
            ("{{ .a | b64enc | b64dec }} {{ .a | len }} {{ slice .a 1 3 }}", "Alpha 5 lp"),
            ("{{ divf 1 4 }} {{ div 7 2 }} {{ mod 7 4 }} {{ subf 5 1 1 }}", "0.25 3 3 3"),
            ("{{ \"1h\" | duration }} {{ bytes \"2KB\" }} {{ default \"d\" .b }}", "3600 2000 d"),
            ("{{/* note */}}{{ and .a .n }}{{ or .b .n }}{{ gt 3 2 }}", "4242true"),
        ] {
            let got = run(template);
            if expected == "ERR" {
                assert!(got.contains('%'), "{template}: {got}")
            } else {
                assert_eq!(got, expected, "{template}")
            }
        }
    }

    #[test]
    fn output_has_an_end() {
        let doubled =
            format!("{{{{ $x := repeat 1000 .a }}}}{}{{{{ $x }}}}", "{{ $x = print $x $x $x $x }}".repeat(20));
        for template in [
            "{{ repeat 1000000000 .a }}",
            "{{ repeat 9223372036854775807 .a }}",
            "{{ .a | repeat 1000 | repeat 1000 | repeat 1000 }}",
            "{{ indent 2000000 .a }}",
            "{{ alignRight 2000000 .a }}",
            "{{ printf \"%2000000d\" 1 }}",
            "{{ .a | repeat 100000 | replace \"A\" (.a | repeat 100000) }}",
            "{{ .a | repeat 100000 | replace \"\" (.a | repeat 1000) }}",
            "{{ regexReplaceAll \"\" (repeat 100000 .a) (repeat 1000 .a) }}",
            doubled.as_str(),
        ] {
            assert!(run(template).starts_with("ERR"), "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "{{",
            "{{ .a",
            "{{ nosuch .a }}",
            "{{ if .a }}",
            "{{ end }}",
            "{{ \"x }}",
            "{{ .a | }}",
            "{{ ( .a }}",
            "{{ $x }}",
            "{{ sha256sum .a }}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = format!("{{{{ {}.a{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(parse(&deep).is_err());
        assert!(parse(&"{{ if .a }}".repeat(10_000)).is_err());
    }
}
