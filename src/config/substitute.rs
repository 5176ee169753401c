//! `${NAME}` in the file's strings: the environment's value takes its place, once, without looking into it again.

use crate::config::values::Wrong;

/// `text` with every `${NAME}` replaced and every `$$` made one `$`. A `$` before anything else stays: field paths begin
/// with one. Errs with every problem at once; values of variables are in none of them.
pub(super) fn substitute(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Vec<Wrong>> {
    let mut out = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let Some((name, after)) = inner.split_once('}') else {
                problems.push(
                    Wrong::new("`${` has no closing brace")
                        .help("write ${NAME}, or $${ for the two characters"),
                );
                rest = "";
                break;
            };
            rest = after;
            match variable(name, env) {
                Ok(value) => out.push_str(&value),
                Err(wrong) => problems.push(wrong),
            }
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

fn variable(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let wrong = Wrong::new(format!("`${{{}}}` does not name a variable", name.escape_debug()));
        return Err(wrong.help("write ${NAME} with letters, digits and `_`, or $${ for the two characters"));
    }
    env(name).ok_or_else(|| {
        Wrong::new(format!("the environment variable `{name}` is not set, or not UTF-8"))
            .help(format!("set {name}, or write the value itself"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".into()),
            "B_2" => Some("${A}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        let read = |text: &str| substitute(text, &env);
        assert_eq!(read("x${A}y${A}").expect("set"), "xoneyone");
        assert_eq!(read("${B_2}").expect("set"), "${A}", "a value is not looked into again");
        assert_eq!(read("$.client_time and $").expect("no variable"), "$.client_time and $");
        assert_eq!(read("$${A} costs $$5").expect("escaped"), "${A} costs $5");
    }

    #[test]
    fn every_missing_variable_is_named() {
        let problems = substitute("${NOPE} ${A} ${NEITHER} ${1x} ${A", &env).expect_err("four problems");
        let messages: Vec<_> = problems.iter().map(|wrong| wrong.message.as_str()).collect();
        assert_eq!(messages.len(), 4);
        assert!(messages[0].contains("`NOPE`") && messages[1].contains("`NEITHER`"), "{messages:?}");
        assert!(messages[2].contains("`${1x}`") && messages[3].contains("closing brace"), "{messages:?}");
        assert!(!messages.concat().contains("one"), "no value of a variable is shown");
    }
}
