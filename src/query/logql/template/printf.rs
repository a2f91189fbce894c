//! `print` and `printf` of templates, with the verbs and flags of Go's package fmt.

use super::Value;
use super::functions::fits;
use super::value::print_float;
use crate::query::logql::ast::quote;

pub(super) fn print(args: &[Value]) -> String {
    let mut text = String::new();
    let mut after_text = true;
    for (at, value) in args.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if at > 0 && !after_text && !is_text {
            text.push(' ');
        }
        text.push_str(&value.print());
        after_text = is_text;
    }
    text
}

pub(super) fn printf(format: &str, args: &[Value]) -> Result<Value, String> {
    let mut text = String::new();
    let mut args = args.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let end = after.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | '#' | ' ')).unwrap_or(after.len());
        let (flags, tail) = after.split_at_checked(end).unwrap_or((after, ""));
        let Some(verb) = tail.chars().next() else {
            text.push_str("%!(NOVERB)");
            rest = "";
            break;
        };
        rest = tail.get(verb.len_utf8()..).unwrap_or_default();
        if verb == '%' {
            text.push('%');
            continue;
        }
        match args.next() {
            Some(value) => text.push_str(&verb_text(flags, verb, value)?),
            None => text.push_str(&format!("%!{verb}(MISSING)")),
        }
        fits(text.len())?;
    }
    text.push_str(rest);
    Ok(Value::Text(text))
}

fn verb_text(flags: &str, verb: char, value: &Value) -> Result<String, String> {
    let signs = flags.find(|c: char| !matches!(c, '-' | '+' | '#' | ' ' | '0')).unwrap_or(flags.len());
    let (signs, numbers) = flags.split_at_checked(signs).unwrap_or((flags, ""));
    let (width, precision) = numbers.split_once('.').map_or((numbers, None), |(width, digits)| (width, Some(digits)));
    let width: usize = if width.is_empty() { 0 } else { width.parse().unwrap_or(usize::MAX) };
    let precision: Option<usize> =
        precision.map(|digits| if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) });
    fits(width.max(precision.unwrap_or(0)))?;
    let body = match (verb, value) {
        ('s' | 'v', value) => {
            let text = value.print();
            precision.map_or(text.clone(), |count| text.chars().take(count).collect())
        }
        ('q', value) => quote(&value.print()),
        ('d', Value::Int(value)) => value.to_string(),
        ('x', Value::Int(value)) => format!("{value:x}"),
        ('X', Value::Int(value)) => format!("{value:X}"),
        ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('f' | 'F', Value::Float(value)) => format!("{value:.*}", precision.unwrap_or(6).min(400)),
        ('g', Value::Float(value)) => print_float(*value),
        ('e', Value::Float(value)) => format!("{value:.*e}", precision.unwrap_or(6).min(400)),
        ('t', Value::Bool(value)) => value.to_string(),
        ('c', Value::Int(value)) => {
            u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or('\u{FFFD}').to_string()
        }
        (verb, value) => format!("%!{verb}({})", value.print()),
    };
    let number = matches!(value, Value::Int(_) | Value::Float(_));
    let body = if signs.contains('+') && number && !body.starts_with('-') { format!("+{body}") } else { body };
    let missing = width.saturating_sub(body.chars().count());
    Ok(if signs.contains('-') {
        format!("{body}{}", " ".repeat(missing))
    } else if signs.contains('0') && number {
        let (sign, digits) = body.split_at_checked(usize::from(body.starts_with(['-', '+']))).unwrap_or(("", &body));
        format!("{sign}{}{digits}", "0".repeat(missing))
    } else {
        format!("{}{body}", " ".repeat(missing))
    })
}
