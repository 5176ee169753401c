//! Paths into bodies.

use super::Found;
use super::source::found;
use super::value::{Scalar, Value};
use crate::domain::canon::{Document, Fields, JsonPath, Node, SentField, Shape, Step};

/// What a path finds in a body.
pub(super) fn look(fields: &Fields, path: &JsonPath) -> Found {
    match fields {
        Fields::Empty => Found::Missing,
        Fields::Json(document) => in_document(document, path),
        Fields::Form(fields) => in_form(fields, path),
        Fields::Unreadable(why) => Found::Unreadable(format!("the body cannot be read without doubt: {why}")),
    }
}

/// A JSON value as a found one; null is nothing.
pub(super) fn value(node: Node<'_>) -> Found {
    match node.shape() {
        Shape::Null => Found::Missing,
        Shape::Array => Found::Value(Value::list(node.elements().map(scalar).collect())),
        shape => Found::Value(Value::one(Scalar::of(shape, node.text()))),
    }
}

fn scalar(node: Node<'_>) -> Scalar {
    Scalar::of(node.shape(), node.text())
}

/// In a GraphQL request, the variables are what other requests have as their body; its own members come first.
fn in_document(document: &Document, path: &JsonPath) -> Found {
    match at(document.root(), path.steps()) {
        Found::Missing => {
            document.variables().map_or(Found::Missing, |variables| at(variables, path.steps()))
        }
        found => found,
    }
}

fn at(node: Node<'_>, steps: &[Step]) -> Found {
    let Some((step, rest)) = steps.split_first() else { return value(node) };
    match step {
        Step::Name(name) => node.member(name).map_or(Found::Missing, |member| at(member, rest)),
        Step::Index(index) => node.elements().nth(*index).map_or(Found::Missing, |element| at(element, rest)),
        Step::Every => {
            let mut items = Vec::new();
            for element in node.elements() {
                match at(element, rest) {
                    Found::Value(value) => items.extend(value.into_items()),
                    Found::Missing => {}
                    unreadable => return unreadable,
                }
            }
            if items.is_empty() { Found::Missing } else { Found::Value(Value::list(items)) }
        }
    }
}

/// The fields that a path addresses. `$.a.b` is `a[b]` and `a.b`; `a[]` and `a[0]` are elements of the list `$.a`; case
/// means nothing, as to the backends that do not look at it.
fn in_form(fields: &[SentField], path: &JsonPath) -> Found {
    let mut list = path.steps().contains(&Step::Every);
    let mut values = Vec::new();
    for (name, value) in fields {
        let Some(place) = place(name, path) else { continue };
        let Some(value) = value else {
            continue;
        };
        list |= place == Place::Element;
        values.push(Scalar::bytes(value));
    }
    match list && !values.is_empty() {
        true => Found::Value(Value::list(values)),
        false => found(values.into_iter()),
    }
}

/// What a field is to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// What it addresses.
    Itself,
    /// An element of the list that it addresses.
    Element,
}

fn place(name: &[u8], path: &JsonPath) -> Option<Place> {
    let name = String::from_utf8_lossy(name);
    if path.field().is_some_and(|field| field.eq_ignore_ascii_case(&name)) {
        return Some(Place::Itself);
    }
    let mut words = name.split(['[', '.']).map(|word| word.strip_suffix(']').unwrap_or(word));
    for (at, step) in path.steps().iter().enumerate() {
        let Some(word) = words.next() else {
            // `days=Mon&days=Wed` is the list `days[*]` too.
            let elements = *step == Step::Every && at + 1 == path.steps().len();
            return elements.then_some(Place::Element);
        };
        let fits = match step {
            Step::Name(name) => name.eq_ignore_ascii_case(word),
            Step::Index(index) => word.parse() == Ok(*index),
            Step::Every => word.bytes().all(|byte| byte.is_ascii_digit()),
        };
        if !fits {
            return None;
        }
    }
    match (words.next(), words.next()) {
        (None, _) => Some(Place::Itself),
        (Some(word), None) if word.bytes().all(|byte| byte.is_ascii_digit()) => Some(Place::Element),
        _ => None,
    }
}
