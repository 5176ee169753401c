//! GraphQL over POST: which requests only read, and the meaning of those that write.
//!
//! A request is GraphQL where it has exactly the shape of one and its document parses. Wherever a server might execute
//! something else than what is read here, the request is a write, and plain JSON.

use super::frame::push_field;
use super::json::unescaped;
use super::{DEPTH_MAX, Doubtful};
use apollo_parser::cst::{Definition, OperationDefinition};
use apollo_parser::{Lexer, Parser, TokenKind};
use std::ops::Range;

/// Requests in one batch; more are plain JSON.
const BATCH_MAX: usize = 64;
/// Tokens of one document; more are plain JSON.
const TOKENS_MAX: usize = 20_000;

/// What one body asks for.
pub(super) struct Operations {
    /// Whether no mutation is among them.
    pub(super) read: bool,
    pub(super) canonical: Vec<u8>,
}

/// Where the members of one request lie in canonical JSON.
#[derive(Default)]
struct Envelope {
    query: Option<Range<usize>>,
    operation_name: Option<Range<usize>>,
}

/// A place in canonical JSON, which is well-formed and without white space.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

/// Whether a target's query names what a GraphQL server may take from there in place of the body's.
pub(super) fn overridden(query: Option<&str>) -> bool {
    let parameters = query.unwrap_or_default().split(['&', ';']);
    parameters.map(|parameter| parameter.split('=').next().unwrap_or_default()).any(|name| {
        name.contains('%') || ["query", "operationname"].contains(&name.to_ascii_lowercase().as_str())
    })
}

/// The body of `application/graphql`: one document, nothing around it.
pub(super) fn document(text: &[u8]) -> Result<Operations, Doubtful> {
    let text = std::str::from_utf8(text).map_err(|_| Doubtful)?;
    let read = reads(text, None)?;
    let mut canonical = Vec::with_capacity(text.len());
    push_tokens(&mut canonical, text)?;
    Ok(Operations { read, canonical })
}

/// A JSON body in canonical text: one request, or a batch of them.
pub(super) fn envelope(canonical_json: &[u8]) -> Result<Operations, Doubtful> {
    // Nearly every JSON body leaves here: members are sorted, and these come first in a request.
    let first = canonical_json.strip_prefix(b"[").unwrap_or(canonical_json);
    if ![&b"{\"extensions\":"[..], b"{\"operationName\":", b"{\"query\":"]
        .iter()
        .any(|name| first.starts_with(name))
    {
        return Err(Doubtful);
    }
    let mut scan = Scan { text: canonical_json, at: 0 };
    let mut operations = Operations { read: true, canonical: Vec::with_capacity(canonical_json.len()) };
    let mut copied = 0;
    if scan.take(b'[') {
        for count in 1.. {
            scan.request(&mut operations, &mut copied)?;
            if scan.take(b']') {
                break;
            }
            if count == BATCH_MAX || !scan.take(b',') {
                return Err(Doubtful);
            }
        }
    } else {
        scan.request(&mut operations, &mut copied)?;
    }
    push_field(&mut operations.canonical, &canonical_json[copied..]);
    Ok(operations)
}

/// Whether the operation that a server would select from a document only reads.
fn reads(document: &str, operation_name: Option<&str>) -> Result<bool, Doubtful> {
    let tree = Parser::new(document).recursion_limit(DEPTH_MAX).token_limit(TOKENS_MAX).parse();
    if tree.errors().next().is_some() {
        return Err(Doubtful);
    }
    let mut operations = Vec::new();
    for definition in tree.document().definitions() {
        match definition {
            Definition::OperationDefinition(operation) => operations.push(operation),
            Definition::FragmentDefinition(_) => {}
            // A schema is nothing to execute.
            _ => return Err(Doubtful),
        }
    }
    let selected = match (operation_name, operations.as_slice()) {
        (None, [only]) => only,
        (None, _) => return Err(Doubtful),
        (Some(wanted), all) => {
            let mut named = all.iter().filter(|operation| name_of(operation).as_deref() == Some(wanted));
            match (named.next(), named.next()) {
                (Some(selected), None) => selected,
                _ => return Err(Doubtful),
            }
        }
    };
    // `{ … }` without a word before it is a query.
    Ok(selected.operation_type().is_none_or(|kind| kind.mutation_token().is_none()))
}

fn name_of(operation: &OperationDefinition) -> Option<String> {
    operation.name().map(|name| name.text().to_string())
}

/// Appends a document's tokens, each behind its length. White space, commas and comments are no tokens.
fn push_tokens(out: &mut Vec<u8>, document: &str) -> Result<(), Doubtful> {
    let mut tokens = Vec::with_capacity(document.len() * 2);
    for token in Lexer::new(document).with_limit(TOKENS_MAX) {
        let token = token.map_err(|_| Doubtful)?;
        match token.kind() {
            TokenKind::Whitespace | TokenKind::Comment | TokenKind::Comma | TokenKind::Eof => {}
            _ => push_field(&mut tokens, token.data().as_bytes()),
        }
    }
    push_field(out, &tokens);
    Ok(())
}

/// The text that a canonical JSON string spells; `None` for other values.
fn string(spelled: &[u8]) -> Option<String> {
    let inner = spelled.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    String::from_utf8(unescaped(inner).collect()).ok()
}

// === impl Scan ===

impl Scan<'_> {
    /// One request: adds to `operations` the canonical text since `copied` up to its document, and the document's tokens.
    fn request(&mut self, operations: &mut Operations, copied: &mut usize) -> Result<(), Doubtful> {
        let envelope = self.envelope()?;
        let query = envelope.query.ok_or(Doubtful)?;
        let document = string(&self.text[query.clone()]).ok_or(Doubtful)?;
        let operation_name = match envelope.operation_name.map(|name| &self.text[name]) {
            None | Some(b"null") => None,
            Some(name) => Some(string(name).ok_or(Doubtful)?),
        };
        operations.read &= reads(&document, operation_name.as_deref())?;
        push_field(&mut operations.canonical, &self.text[*copied..query.start]);
        push_tokens(&mut operations.canonical, &document)?;
        *copied = query.end;
        Ok(())
    }

    /// An object that has a GraphQL request's members and no others: an ordinary resource that happens to have a member
    /// `query` has others too.
    fn envelope(&mut self) -> Result<Envelope, Doubtful> {
        let mut envelope = Envelope::default();
        if !self.take(b'{') {
            return Err(Doubtful);
        }
        while !self.take(b'}') {
            self.take(b',');
            let name = self.value();
            self.take(b':');
            let value = self.value();
            match &self.text[name] {
                b"\"query\"" => envelope.query = Some(value),
                b"\"operationName\"" => envelope.operation_name = Some(value),
                b"\"variables\"" | b"\"extensions\"" => {}
                _ => return Err(Doubtful),
            }
        }
        Ok(envelope)
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(taken);
        taken
    }

    /// Moves over one value, and says where it lies.
    fn value(&mut self) -> Range<usize> {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' | b':' if depth == 0 => break,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        start..self.at.min(self.text.len())
    }

    /// Moves from a string's opening quote to its closing one.
    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => return,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests;
