//! What a client gets that has a copy already (RFC 9110, 13), and what a 304 does to a kept answer (RFC 9111, 3.2).

use super::fresh::date;
use http::header::{self, HeaderMap, HeaderName};

/// Whether a request's conditions say that the client has this answer. `If-None-Match` counts before
/// `If-Modified-Since`, which is not even looked at then.
pub fn has_it(request: &HeaderMap, answer: &HeaderMap) -> bool {
    let mut tags = request.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        let own = answer.get(header::ETAG).map(|tag| opaque(tag.as_bytes()));
        return tags.any(|list| names(list.as_bytes(), own));
    }
    let since = date(request, &header::IF_MODIFIED_SINCE);
    let modified = date(answer, &header::LAST_MODIFIED);
    modified.zip(since).is_some_and(|(modified, since)| modified <= since)
}

/// Whether a request has a condition that a cache answers.
pub fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(header::IF_NONE_MATCH) || request.contains_key(header::IF_MODIFIED_SINCE)
}

/// Whether a list of tags names `own`, compared weakly. A `*` names whatever there is.
fn names(list: &[u8], own: Option<&[u8]>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(own) = own else { return false };
    let mut rest = list;
    while !rest.is_empty() {
        let (tag, behind) = rest.split_at(end_of_tag(rest));
        if opaque(tag.trim_ascii()) == own {
            return true;
        }
        rest = behind.get(1..).unwrap_or_default();
    }
    false
}

/// Where the first tag of a list ends: a comma within its quotes is part of it.
fn end_of_tag(list: &[u8]) -> usize {
    let mut quoted = false;
    for (at, &byte) in list.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

/// A tag without its weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a header of an answer goes into the 304 that stands for it: all but those that describe the body.
pub fn goes_into_304(name: &HeaderName) -> bool {
    !(name.as_str().starts_with("content-") && *name != header::CONTENT_LOCATION)
        || name.as_str().starts_with("content-security-policy")
}

/// Whether a 304's header replaces the kept answer's: all but those that describe the body, which is the old one.
pub fn is_updated_by_304(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "content-length"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "content-md5"
            | "transfer-encoding"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn tags_are_compared_weakly() {
        let answer = map(&[("etag", "\"a,b\"")]);
        for held in ["\"a,b\"", "W/\"a,b\"", "\"x\", W/\"a,b\" , \"y\"", "*"] {
            assert!(has_it(&map(&[("if-none-match", held)]), &answer), "{held}");
        }
        for held in ["\"a\"", "a,b", "\"x\"", "", "\"*\""] {
            assert!(!has_it(&map(&[("if-none-match", held)]), &answer), "{held}");
        }
        assert!(has_it(&map(&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")]), &answer));
        assert!(has_it(&map(&[("if-none-match", "\"w\"")]), &map(&[("etag", "W/\"w\"")])));
    }

    #[test]
    fn a_tag_counts_before_a_date() {
        let answer = map(&[("etag", "\"a\""), ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT")]);
        let later = ("if-modified-since", "Tue, 14 Nov 2023 23:13:20 GMT");
        assert!(has_it(&map(&[later]), &answer));
        assert!(!has_it(&map(&[later, ("if-none-match", "\"b\"")]), &answer));
    }

    #[test]
    fn dates_that_cannot_be_compared_decide_nothing() {
        let answer = map(&[("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT")]);
        for since in ["Tue, 14 Nov 2023 22:13:19 GMT", "yesterday"] {
            assert!(!has_it(&map(&[("if-modified-since", since)]), &answer));
        }
        assert!(has_it(&map(&[("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT")]), &answer));
        assert!(!has_it(&map(&[("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT")]), &map(&[])));
        assert!(!has_it(&map(&[]), &answer));
    }

    #[test]
    fn a_304_describes_no_body() {
        let goes = |name: &'static str| goes_into_304(&HeaderName::from_static(name));
        assert!(goes("etag") && goes("cache-control") && goes("content-location"));
        assert!(goes("access-control-allow-origin") && goes("content-security-policy"));
        assert!(!goes("content-length") && !goes("content-type") && !goes("content-encoding"));
    }
}
