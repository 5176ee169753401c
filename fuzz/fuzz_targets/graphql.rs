//! GraphQL: nothing that holds a mutation passes as a read, and one meaning only for the same tokens.
#![no_main]

use apollo_parser::{Lexer, TokenKind};
use libfuzzer_sys::fuzz_target;
use oncegate::domain::canon::Kind;
use oncegate_fuzz::{body_and_variant, read};

const GRAPHQL: &str = "application/graphql";

fn tokens(document: &str) -> Vec<&str> {
    let (tokens, _) = Lexer::new(document).lex();
    let counts = |kind| {
        !matches!(kind, TokenKind::Whitespace | TokenKind::Comment | TokenKind::Comma | TokenKind::Eof)
    };
    tokens.into_iter().filter(|token| counts(token.kind())).map(|token| token.data()).collect()
}

/// Whether a definition begins with `mutation`: found by counting braces, not by parsing.
fn has_mutation(tokens: &[&str]) -> bool {
    let mut depth = 0;
    let mut begins = true;
    for token in tokens {
        if depth == 0 && begins && *token == "mutation" {
            return true;
        }
        begins = false;
        match *token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                begins = *token == "}" && depth == 0;
            }
            _ => {}
        }
    }
    false
}

fuzz_target!(|data: &[u8]| {
    let Some((body, variant)) = body_and_variant(data) else { return };
    let (Ok(document), Ok(variant)) = (std::str::from_utf8(body), std::str::from_utf8(&variant)) else {
        return;
    };
    let meaning = read(GRAPHQL, body);
    if meaning.kind != Kind::Graphql {
        assert!(!meaning.read);
        return;
    }
    let found = tokens(document);
    assert!(!(meaning.read && has_mutation(&found)), "a mutation passes as a read");
    // Not on one line: a comment's end would be lost with the line's.
    assert_eq!(read(GRAPHQL, found.join("\n").as_bytes()), meaning, "same tokens, same meaning");
    if read(GRAPHQL, variant.as_bytes()) == meaning {
        assert_eq!(tokens(variant), found);
    }
    let envelope = |document: &str| format!("{{\"query\":{}}}", serde_json::Value::from(document));
    let enveloped = envelope(document);
    let enveloped = read("application/json", enveloped.as_bytes());
    assert_eq!((enveloped.kind, enveloped.read), (meaning.kind, meaning.read));
});
