//! Ways through canonical text: which member, which element. Only text that [`canonical`](super::canonical) gave is walked,
//! so it is well-formed, without white space, and no object has two names that differ only in case.

use super::spelling::{push_string, unescaped};
use std::ops::Range;

/// One value in canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    text: &'a [u8],
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `null`.
    Null,
    /// A string, as the text that it spells.
    Text(String),
    /// A number as it was sent, `true` or `false`.
    Word(String),
    /// An array.
    Array,
    /// An object.
    Object,
}

// === impl Node ===

impl<'a> Node<'a> {
    /// The root of a canonical document.
    pub(in crate::domain::canon) fn root(text: &'a [u8]) -> Node<'a> {
        Node { text }
    }

    /// The canonical text of this value.
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// What it is.
    pub fn shape(self) -> Shape {
        let text = || String::from_utf8_lossy(self.text).into_owned();
        match self.text {
            b"null" => Shape::Null,
            [b'"', inner @ .., b'"'] => {
                // Canonical text is UTF-8, and so is what it spells.
                Shape::Text(String::from_utf8_lossy(&unescaped(inner).collect::<Vec<_>>()).into_owned())
            }
            [b'[', ..] => Shape::Array,
            [b'{', ..] => Shape::Object,
            _ => Shape::Word(text()),
        }
    }

    /// The member `name` of an object: spelled exactly so, or else the one that differs only in case. Some backends
    /// match names without regard to case, and none of them would leave such a member out.
    pub fn member(self, name: &str) -> Option<Node<'a>> {
        let mut spelled = Vec::with_capacity(name.len() + 2);
        push_string(&mut spelled, name);
        let folded = std::cell::OnceCell::new();
        let mut similar = None;
        for (found, value) in self.members() {
            if found == spelled {
                return Some(value);
            }
            // Equal but for case means the same length, except for a few letters beyond ASCII.
            if similar.is_none() && (found.len() == spelled.len() || !found.is_ascii() || !name.is_ascii()) {
                let folded = folded.get_or_init(|| fold(&spelled));
                similar = (fold(found) == *folded).then_some(value);
            }
        }
        similar
    }

    /// The elements of an array; none of anything else.
    pub fn elements(self) -> impl Iterator<Item = Node<'a>> {
        let mut scan = Scan { text: self.text, at: 1 };
        let is_array = self.text.first() == Some(&b'[');
        std::iter::from_fn(move || if is_array { scan.item() } else { None })
            .map(move |range| Node { text: &self.text[range] })
    }

    /// The members of an object, each with its name as it is spelled, quotes included; none of anything else.
    fn members(self) -> impl Iterator<Item = (&'a [u8], Node<'a>)> {
        let mut scan = Scan { text: self.text, at: 1 };
        let is_object = self.text.first() == Some(&b'{');
        std::iter::from_fn(move || {
            if !is_object {
                return None;
            }
            let name = scan.item()?;
            let value = scan.item()?;
            Some((&self.text[name], Node { text: &self.text[value] }))
        })
    }
}

/// A name as a decoder sees it that does not look at case.
fn fold(spelled: &[u8]) -> String {
    String::from_utf8_lossy(spelled)
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

/// A place inside a container.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

// === impl Scan ===

impl Scan<'_> {
    /// The next name, value or element; `None` at the container's end. Moves over the comma or colon behind it.
    fn item(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match *self.text.get(self.at)? {
                b'"' => self.string(),
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => {
                    let end = self.at;
                    // Whoever asks again finds the end again.
                    return (end > start).then_some(start..end);
                }
                b'}' | b']' => depth -= 1,
                b',' | b':' if depth == 0 => {
                    self.at += 1;
                    return Some(start..self.at - 1);
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Moves from a string's opening quote to its closing one.
    fn string(&mut self) {
        loop {
            self.at += 1;
            match self.text.get(self.at) {
                Some(b'\\') => self.at += 1,
                Some(b'"') | None => return,
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Paths, canonical};
    use super::*;

    fn at<'a>(text: &'a [u8], names: &[&str]) -> Option<Node<'a>> {
        names.iter().try_fold(Node::root(text), |node, name| node.member(name))
    }

    #[test]
    fn members_and_elements_are_found_wherever_they_are() {
        let text = br#"{"b":[1,"x,]}",{"c":[]},[]],"a":{"q\"uo\\te":"\u00e9","d":{}},"e":null}"#;
        let text = canonical(text, &Paths::default()).expect("JSON");
        assert_eq!(at(&text, &["a", "q\"uo\\te"]).map(Node::shape), Some(Shape::Text("é".into())));
        assert_eq!(at(&text, &["a", "d"]).map(Node::shape), Some(Shape::Object));
        assert_eq!(at(&text, &["e"]).map(Node::shape), Some(Shape::Null));
        assert_eq!(at(&text, &["a", "e"]), None);
        assert_eq!(at(&text, &["e", "a"]), None);
        let elements: Vec<_> = at(&text, &["b"]).expect("there").elements().map(Node::shape).collect();
        assert_eq!(
            elements,
            [Shape::Word("1".into()), Shape::Text("x,]}".into()), Shape::Object, Shape::Array]
        );
        assert_eq!(at(&text, &["a"]).expect("there").elements().count(), 0, "an object has no elements");
    }

    #[test]
    fn a_member_that_differs_only_in_case_is_found_where_no_other_is() {
        let text = canonical(br#"{"ClinicId":1,"\u00c9t\u00e9":2,"x":3}"#, &Paths::default()).expect("JSON");
        assert_eq!(at(&text, &["clinicId"]).map(Node::text), Some(&b"1"[..]));
        assert_eq!(at(&text, &["ÉTÉ"]).map(Node::text), Some(&b"2"[..]));
        assert_eq!(at(&text, &["clinicIdd"]), None);
    }
}
