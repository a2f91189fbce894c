//! Runs a template over one row, within its bounds on steps and bytes.

use super::functions::Call as FunctionCall;
use super::{Node, OUTPUT_BYTES_MAX, Operand, Pipe, STEP_BYTES, STEPS_MAX, Template, Value};

/// What a template can see of a row.
pub(crate) trait Scope {
    /// A label's value.
    fn label(&self, name: &str) -> Option<&str>;
    /// All labels.
    fn each_label(&self, visit: &mut dyn FnMut(&str, &str));
    /// The line.
    fn line(&self) -> &str;
    /// The line's time, in nanoseconds.
    fn time_ns(&self) -> i64;
    /// The query's time, in nanoseconds.
    fn now_ns(&self) -> i64;
    /// Counts work that costs as much as looking at so many bytes; whether it may be done.
    fn spend(&self, cost: usize) -> bool;
}

struct Run<'a> {
    template: &'a Template,
    scope: &'a dyn Scope,
    variables: Vec<(&'a str, Value)>,
    /// What `.` is, inside `with` and `range`; outside it is the labels.
    dot: Option<Value>,
    output: String,
    steps: usize,
}

pub(super) fn execute(template: &Template, scope: &dyn Scope) -> Result<String, String> {
    let mut run = Run { template, scope, variables: Vec::new(), dot: None, output: String::new(), steps: 0 };
    run.nodes(&template.nodes)?;
    Ok(run.output)
}

impl<'a> Run<'a> {
    fn step(&mut self, cost: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(1 + cost / STEP_BYTES);
        if !self.scope.spend(cost.saturating_add(64)) {
            return Err("the query ended".to_owned());
        }
        if self.steps > STEPS_MAX { Err(format!("the template takes more than {STEPS_MAX} steps")) } else { Ok(()) }
    }

    fn print(&mut self, text: &str) -> Result<(), String> {
        if self.output.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err(format!("the template makes more than {OUTPUT_BYTES_MAX} bytes"));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn nodes(&mut self, nodes: &'a [Node]) -> Result<(), String> {
        let visible = self.variables.len();
        for node in nodes {
            self.step(0)?;
            self.node(node)?;
        }
        self.variables.truncate(visible);
        Ok(())
    }

    fn node(&mut self, node: &'a Node) -> Result<(), String> {
        match node {
            Node::Text(text) => self.print(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe)?;
                if pipe.variable.is_some() { Ok(()) } else { self.print(&value.print()) }
            }
            Node::If { branches, otherwise } => {
                let visible = self.variables.len();
                let mut chosen = otherwise;
                for (pipe, body) in branches {
                    if self.pipe(pipe)?.truth() {
                        chosen = body;
                        break;
                    }
                }
                self.nodes(chosen)?;
                self.variables.truncate(visible);
                Ok(())
            }
            Node::With { pipe, body, otherwise } => {
                let visible = self.variables.len();
                let value = self.pipe(pipe)?;
                if value.truth() {
                    self.inside(value, body)?;
                } else {
                    self.nodes(otherwise)?;
                }
                self.variables.truncate(visible);
                Ok(())
            }
            Node::Range { names, pipe, body, otherwise } => self.range(names, pipe, body, otherwise),
        }
    }

    fn inside(&mut self, dot: Value, body: &'a [Node]) -> Result<(), String> {
        let outer = self.dot.replace(dot);
        let result = self.nodes(body);
        self.dot = outer;
        result
    }

    fn range(
        &mut self,
        names: &'a [String],
        pipe: &'a Pipe,
        body: &'a [Node],
        otherwise: &'a [Node],
    ) -> Result<(), String> {
        let items: Vec<(Value, Value)> = match self.pipe(pipe)? {
            Value::List(items) => (0..).map(Value::Int).zip(items).collect(),
            Value::Map(members) => members.into_iter().map(|(name, value)| (Value::Text(name), value)).collect(),
            Value::Nil => Vec::new(),
            other => {
                return Err(format!("range can't iterate over {}", other.print().chars().take(80).collect::<String>()));
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise);
        }
        for (key, value) in items {
            self.step(0)?;
            let visible = self.variables.len();
            match names {
                [name] => self.variables.push((name, value.clone())),
                [first, second] => {
                    self.variables.push((first, key));
                    self.variables.push((second, value.clone()));
                }
                _ => {}
            }
            self.inside(value, body)?;
            self.variables.truncate(visible);
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &'a Pipe) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for call in &pipe.calls {
            let Operand::Function(function) = &call.head else {
                last = Some(self.operand(&call.head)?);
                continue;
            };
            let mut args = Vec::with_capacity(call.args.len() + 1);
            for arg in &call.args {
                args.push(self.operand(arg)?);
            }
            args.extend(last.take());
            last = Some(self.call(function, &args)?);
        }
        let value = last.unwrap_or(Value::Nil);
        if let Some((name, declare)) = &pipe.variable {
            match self.variables.iter_mut().rev().find(|(own, _)| own == name).filter(|_| !declare) {
                Some((_, own)) => *own = value.clone(),
                None => self.variables.push((name, value.clone())),
            }
        }
        Ok(value)
    }

    fn call(&mut self, function: &super::Function, args: &[Value]) -> Result<Value, String> {
        self.step(args.iter().map(Value::size).sum())?;
        if args.len() < function.least || args.len() > function.most {
            return Err(format!("wrong number of args for {}: got {}", function.name, args.len()));
        }
        let call = FunctionCall { args, scope: self.scope, regexes: &self.template.regexes };
        let value = (function.run)(&call).map_err(|error| format!("{}: {error}", function.name))?;
        if value.size() > OUTPUT_BYTES_MAX {
            return Err(format!("{} makes more than {OUTPUT_BYTES_MAX} bytes", function.name));
        }
        // What it made costs as what it was given does: `repeat` makes much of little.
        self.step(value.size())?;
        Ok(value)
    }

    fn operand(&mut self, operand: &'a Operand) -> Result<Value, String> {
        let value = match operand {
            Operand::Literal(value) => value.clone(),
            Operand::Field(names) => match (&self.dot, names.split_first()) {
                (None, Some((first, rest))) => {
                    let label = Value::Text(self.scope.label(first).unwrap_or_default().to_owned());
                    member(&label, rest)
                }
                (None, None) => self.all_labels(),
                (Some(dot), _) => member(dot, names),
            },
            Operand::Variable(name, fields) => {
                if name.is_empty() {
                    let first = fields.first().map(|first| self.scope.label(first).unwrap_or_default().to_owned());
                    first.map_or_else(|| self.all_labels(), Value::Text)
                } else {
                    let value = self.variables.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value);
                    value.map_or(Value::Nil, |value| member(value, fields))
                }
            }
            Operand::Function(function) => self.call(function, &[])?,
            Operand::Pipe(pipe, fields) => {
                self.step(0)?;
                let value = self.pipe(pipe)?;
                member(&value, fields)
            }
        };
        self.step(value.size())?;
        Ok(value)
    }

    fn all_labels(&self) -> Value {
        let mut labels = Vec::new();
        self.scope.each_label(&mut |name, value| labels.push((name.to_owned(), Value::Text(value.to_owned()))));
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Map(labels)
    }
}

fn member(value: &Value, names: &[String]) -> Value {
    let mut value = value;
    for name in names {
        let Value::Map(members) = value else { return Value::Nil };
        let Some((_, found)) = members.iter().find(|(own, _)| own == name) else { return Value::Nil };
        value = found;
    }
    value.clone()
}
