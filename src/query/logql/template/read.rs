//! Template text to nodes.

use super::functions::find;
use super::{Call, Node, Operand, Pipe, Value};
use crate::query::logql::lexer::unescape;

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 50;
/// Most nodes and operands.
const NODES_MAX: usize = 5_000;

#[derive(Debug)]
enum Piece<'a> {
    Text(String),
    Action(&'a str),
}

/// Cuts text and actions apart; `{{-` and `-}}` trim the text beside them.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = rest.split_once("{{").map_or((rest, None), |(before, after)| (before, Some(after)));
        let mut literal = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            if !literal.is_empty() {
                pieces.push(Piece::Text(literal.to_owned()));
            }
            return Ok(pieces);
        };
        let trims_before = after.starts_with("- ") || after.starts_with("-\n") || after.starts_with("-\t");
        let inner = if trims_before { after.get(1..).unwrap_or_default() } else { after };
        if trims_before {
            literal = literal.trim_end();
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.to_owned()));
        }
        let end = action_end(inner).ok_or("unclosed action")?;
        let (action, tail) = inner.split_at_checked(end).unwrap_or((inner, ""));
        let stripped = action.strip_suffix('-').filter(|action| action.ends_with(char::is_whitespace));
        trim = stripped.is_some();
        let action = stripped.unwrap_or(action).trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(action));
        }
        rest = tail.get(2..).unwrap_or_default();
    }
}

/// Where `}}` closes an action, strings left out.
fn action_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (quote, byte) {
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, b'"' | b'`' | b'\'') => quote = Some(*byte),
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// A template's text, read.
pub(super) struct Read {
    pub(super) nodes: Vec<Node>,
    /// Regular expressions that it writes out.
    pub(super) patterns: Vec<String>,
    /// Whether it makes others of labels or lines.
    pub(super) patterns_of_data: bool,
}

pub(super) fn read(text: &str) -> Result<Read, String> {
    let pieces = pieces(text)?;
    if pieces.len() > NODES_MAX {
        return Err(format!("more than {NODES_MAX} actions"));
    }
    let mut reader = Reader {
        pieces: pieces.into_iter(),
        variables: Vec::new(),
        operands: 0,
        patterns: Vec::new(),
        patterns_of_data: false,
    };
    let (nodes, end) = reader.block(0)?;
    match end {
        End::Text => Ok(Read { nodes, patterns: reader.patterns, patterns_of_data: reader.patterns_of_data }),
        End::Block | End::Else(_) => Err("unexpected {{end}} or {{else}}".to_owned()),
    }
}

struct Reader<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    variables: Vec<String>,
    operands: usize,
    patterns: Vec<String>,
    patterns_of_data: bool,
}

enum End<'a> {
    Text,
    Block,
    /// What stands behind `else`.
    Else(&'a str),
}

type Block<'a> = (Vec<Node>, End<'a>);

impl<'a> Reader<'a> {
    fn block(&mut self, depth: usize) -> Result<Block<'a>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("blocks nested more than {DEPTH_MAX} deep"));
        }
        let visible = self.variables.len();
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            match word {
                "end" if rest.is_empty() => {
                    self.variables.truncate(visible);
                    return Ok((nodes, End::Block));
                }
                "else" => {
                    self.variables.truncate(visible);
                    return Ok((nodes, End::Else(rest.trim())));
                }
                "if" => nodes.push(self.if_block(rest, depth)?),
                "with" => {
                    let visible = self.variables.len();
                    let pipe = self.pipe(rest)?;
                    let (body, otherwise) = self.body(depth)?;
                    self.variables.truncate(visible);
                    nodes.push(Node::With { pipe, body, otherwise });
                }
                "range" => nodes.push(self.range_block(rest, depth)?),
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("{word} is not supported"));
                }
                _ => nodes.push(Node::Print(self.pipe(action)?)),
            }
        }
        Ok((nodes, End::Text))
    }

    /// A body and what follows its `else`.
    fn body(&mut self, depth: usize) -> Result<(Vec<Node>, Vec<Node>), String> {
        match self.block(depth + 1)? {
            (body, End::Block) => Ok((body, Vec::new())),
            (body, End::Else("")) => match self.block(depth + 1)? {
                (otherwise, End::Block) => Ok((body, otherwise)),
                _ => Err("a block has no {{end}}".to_owned()),
            },
            _ => Err("a block has no {{end}}".to_owned()),
        }
    }

    fn if_block(&mut self, condition: &'a str, depth: usize) -> Result<Node, String> {
        let visible = self.variables.len();
        let mut branches = Vec::new();
        let mut condition = condition;
        let otherwise = loop {
            let pipe = self.pipe(condition)?;
            let (body, end) = self.block(depth + 1)?;
            branches.push((pipe, body));
            match end {
                End::Block => break Vec::new(),
                End::Else("") => match self.block(depth + 1)? {
                    (otherwise, End::Block) => break otherwise,
                    _ => return Err("a block has no {{end}}".to_owned()),
                },
                End::Else(next) => {
                    condition = next
                        .strip_prefix("if")
                        .filter(|next| next.starts_with(char::is_whitespace))
                        .ok_or("unexpected text after else")?;
                }
                End::Text => return Err("a block has no {{end}}".to_owned()),
            }
        };
        self.variables.truncate(visible);
        Ok(Node::If { branches, otherwise })
    }

    fn range_block(&mut self, text: &str, depth: usize) -> Result<Node, String> {
        let visible = self.variables.len();
        let (names, text) = match text.split_once(":=") {
            Some((names, text)) if names.trim_start().starts_with('$') => {
                let names = names.split(',').map(|name| name.trim().strip_prefix('$').map(str::to_owned));
                (names.collect::<Option<Vec<_>>>().ok_or("malformed range")?, text)
            }
            _ => (Vec::new(), text),
        };
        if names.len() > 2 {
            return Err("range declares at most two variables".to_owned());
        }
        let pipe = self.pipe(text)?;
        self.variables.extend(names.iter().cloned());
        let (body, otherwise) = self.body(depth)?;
        self.variables.truncate(visible);
        Ok(Node::Range { names, pipe, body, otherwise })
    }

    fn pipe(&mut self, text: &str) -> Result<Pipe, String> {
        let mut tokens = Tokens { rest: text };
        let pipe = self.pipe_of(&mut tokens, 0)?;
        if tokens.peek().is_some() {
            return Err(format!("unexpected {:?} in action", tokens.rest.chars().take(40).collect::<String>()));
        }
        Ok(pipe)
    }

    fn pipe_of(&mut self, tokens: &mut Tokens<'_>, depth: usize) -> Result<Pipe, String> {
        if depth > DEPTH_MAX {
            return Err(format!("parentheses nested more than {DEPTH_MAX} deep"));
        }
        let variable = tokens.assignment();
        let mut calls = Vec::new();
        loop {
            let head = self.operand(tokens, depth)?.ok_or("missing value in action")?;
            let mut args = Vec::new();
            while let Some(arg) = self.operand(tokens, depth)? {
                args.push(arg);
            }
            if !matches!(head, Operand::Function(_)) && (!args.is_empty() || !calls.is_empty()) {
                return Err("a value that is no function is given arguments".to_owned());
            }
            self.note_pattern(&head, &args);
            calls.push(Call { head, args });
            if tokens.peek() != Some('|') {
                break;
            }
            tokens.skip(1);
        }
        if let Some((name, true)) = &variable {
            self.variables.push(name.clone());
        }
        Ok(Pipe { variable, calls })
    }

    /// Remembers the regular expression that a function is given.
    fn note_pattern(&mut self, head: &Operand, args: &[Operand]) {
        let Operand::Function(function) = head else { return };
        if !function.takes_pattern() {
            return;
        }
        match args.first() {
            Some(Operand::Literal(Value::Text(text))) => {
                if !self.patterns.contains(text) {
                    self.patterns.push(text.clone());
                }
            }
            _ => self.patterns_of_data = true,
        }
    }

    fn operand(&mut self, tokens: &mut Tokens<'_>, depth: usize) -> Result<Option<Operand>, String> {
        self.operands += 1;
        if self.operands > NODES_MAX {
            return Err(format!("more than {NODES_MAX} values"));
        }
        let Some(first) = tokens.peek() else { return Ok(None) };
        let operand = match first {
            '|' | ')' => return Ok(None),
            '(' => {
                tokens.skip(1);
                let pipe = self.pipe_of(tokens, depth + 1)?;
                if tokens.peek() != Some(')') {
                    return Err("unclosed parenthesis".to_owned());
                }
                tokens.skip(1);
                Operand::Pipe(Box::new(pipe), tokens.fields())
            }
            '.' if !tokens.rest.get(1..2).is_some_and(|c| c.as_bytes()[0].is_ascii_digit()) => {
                Operand::Field(tokens.fields_or_dot())
            }
            '$' => {
                tokens.skip(1);
                let name = tokens.word();
                if !name.is_empty() && !self.variables.contains(&name) {
                    return Err(format!("undefined variable ${name}"));
                }
                Operand::Variable(name, tokens.fields())
            }
            '"' | '`' | '\'' => Operand::Literal(Value::Text(tokens.text()?)),
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => Operand::Literal(tokens.number()?),
            c if c.is_alphabetic() || c == '_' => match tokens.word().as_str() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Literal(Value::Nil),
                word => Operand::Function(find(word).ok_or_else(|| format!("function {word:?} not defined"))?),
            },
            c => return Err(format!("unexpected {c:?} in action")),
        };
        Ok(Some(operand))
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let word = self.rest.get(..end).unwrap_or_default().to_owned();
        self.skip(end);
        word
    }

    /// `.a.b` directly behind something.
    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while self
            .rest
            .strip_prefix('.')
            .is_some_and(|tail| tail.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        {
            self.skip(1);
            fields.push(self.word());
        }
        fields
    }

    fn fields_or_dot(&mut self) -> Vec<String> {
        let fields = self.fields();
        if fields.is_empty() {
            self.skip(1);
        }
        fields
    }

    /// `$x :=` or `$x =` at the start; whether it declares.
    fn assignment(&mut self) -> Option<(String, bool)> {
        let mut ahead = Tokens { rest: self.rest };
        if ahead.peek() != Some('$') {
            return None;
        }
        ahead.skip(1);
        let name = ahead.word();
        ahead.peek();
        let declare = ahead.rest.starts_with(":=");
        if name.is_empty() || !(declare || (ahead.rest.starts_with('=') && !ahead.rest.starts_with("=="))) {
            return None;
        }
        ahead.skip(if declare { 2 } else { 1 });
        self.rest = ahead.rest;
        Some((name, declare))
    }

    fn text(&mut self) -> Result<String, String> {
        let quote = self.rest.chars().next().unwrap_or('"');
        let inner = self.rest.get(1..).unwrap_or_default();
        let bytes = inner.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if *byte == b'\\' && quote != '`' {
                at += 1;
            } else if char::from(*byte) == quote {
                let raw = inner.get(..at).unwrap_or_default();
                let text = if quote == '`' { Some(raw.to_owned()) } else { unescape(raw) };
                self.skip(at + 2);
                return text.ok_or_else(|| "invalid escape in string".to_owned());
            }
            at += 1;
        }
        Err("unterminated string".to_owned())
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_')));
        let text = self.rest.get(..end.unwrap_or(self.rest.len())).unwrap_or_default().to_owned();
        self.skip(text.len());
        if let Ok(value) = text.parse::<i64>() {
            return Ok(Value::Int(value));
        }
        text.parse().map(Value::Float).map_err(|_| format!("{text:?} is no number"))
    }
}
