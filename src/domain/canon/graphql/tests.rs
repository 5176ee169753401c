use super::super::{BodyInput, GraphqlRule, JsonPath, Kind, Meaning, Rules, meaning};

fn rules() -> Rules {
    Rules::new(&[], &[], 1 << 20)
}

fn read<'a>(body: &'a str, rules: &Rules) -> Meaning<'a> {
    let content_type = Some(&b"application/json"[..]);
    meaning(&BodyInput { content_type, content_encoding: None, query: None, body: body.as_bytes() }, rules)
}

/// A request with a document and, as JSON, further members.
fn request(document: &str, more: &str) -> String {
    format!("{{\"query\":{}{more}}}", serde_json::Value::from(document))
}

/// What a request is: a GraphQL read or write, or plain JSON, which is a write.
fn judged(document: &str, more: &str) -> &'static str {
    let request = request(document, more);
    match read(&request, &rules()) {
        Meaning { kind: Kind::Graphql, read: true, .. } => "read",
        Meaning { kind: Kind::Graphql, read: false, .. } => "write",
        Meaning { kind: Kind::Json, read: false, .. } => "json",
        other => panic!("not expected: {other:?}"),
    }
}

const TWO: &str = "query A { a } mutation B { b }";

#[test]
fn queries_and_subscriptions_read_and_mutations_write() {
    assert_eq!(judged("{ a }", ""), "read");
    assert_eq!(judged("query { a }", r#","variables":{},"extensions":{},"operationName":null"#), "read");
    assert_eq!(judged("query A($x: Int = 1) { ...F } fragment F on Q { a(mutation: $x) }", ""), "read");
    assert_eq!(judged("subscription { a }", ""), "read");
    assert_eq!(judged("mutation { a }", ""), "write");
    assert_eq!(judged("mutation query { query }", ""), "write");
}

#[test]
fn the_selected_operation_decides() {
    assert_eq!(judged(TWO, r#","operationName":"A""#), "read");
    assert_eq!(judged(TWO, r#","operationName":"B""#), "write");
    assert_eq!(judged(TWO, r#","operationName":"\u0041""#), "read");
}

#[test]
fn whatever_a_server_might_understand_otherwise_is_a_plain_write() {
    assert_eq!(judged(TWO, ""), "json", "two operations and no name");
    assert_eq!(judged(TWO, r#","operationName":"""#), "json");
    assert_eq!(judged(TWO, r#","operationName":"C""#), "json");
    assert_eq!(judged(TWO, r#","operationName":1"#), "json");
    assert_eq!(judged("query A { a } query A { b }", r#","operationName":"A""#), "json", "two of one name");
    assert_eq!(judged("{ a }", r#","id":"7""#), "json", "a member that no GraphQL request has");
    assert_eq!(judged("{ a }", r#","within":"7d""#), "json", "one that sorts behind");
    assert_eq!(judged("{ a", ""), "json");
    assert_eq!(judged("", ""), "json");
    assert_eq!(judged("free rooms", ""), "json", "a search text");
    assert_eq!(judged("fragment F on Q { a }", ""), "json", "nothing to execute");
    assert_eq!(judged("type A { a: Int } query { a }", ""), "json", "a schema");
    assert_eq!(judged(&format!("{}a{}", "{a".repeat(100), "}".repeat(100)), ""), "json", "nested too deep");
    for body in [
        r#"{"a":{"query":"{a}"}}"#,
        r#"{"query":{"query":"{a}"}}"#,
        r#"["query","{a}"]"#,
        r#"[{"query":"{a}"},1]"#,
    ] {
        assert_eq!(read(body, &rules()).kind, Kind::Json, "{body}");
    }
    let twice = r#"{"query":"{a}","Query":"mutation{b}"}"#;
    assert_eq!(read(twice, &rules()).kind, Kind::Raw, "a decoder without regard to case takes the mutation");
}

#[test]
fn a_document_in_the_targets_query_makes_it_a_plain_write() {
    let body = request("{ a }", "");
    let content_type = Some(&b"application/json"[..]);
    let input = BodyInput { content_type, content_encoding: None, query: None, body: body.as_bytes() };
    let with = |query| meaning(&BodyInput { query: Some(query), ..input }, &rules());
    assert!(with("op=a&page=query").read);
    for query in ["query=mutation{b}", "a=1&operationName=B", "%71uery=x", "a;query=x"] {
        assert!(!with(query).read, "{query}");
        assert_eq!(with(query).kind, Kind::Json, "{query}");
    }
}

#[test]
fn layout_of_a_document_means_nothing() {
    let rules = rules();
    let same = |a: &str, b: &str| read(a, &rules) == read(b, &rules);
    let tight = request("mutation B($a:Int,$b:Int){b(a:$a,b:$b){id}}", r#","variables":{"a":1,"b":2}"#);
    let airy = request(
        "mutation B(\n  $a: Int # first\n  $b: Int\n) {\n  b(a: $a b: $b) { id, }\n}\n",
        r#" , "variables" : { "b" : 2, "a" : 1 }"#,
    );
    assert!(same(&tight, &airy));
    assert!(!same(&tight, &tight.replace("\"a\":1", "\"a\":2")));
    assert!(!same(&tight, &tight.replace("{id}", "{token}")));
    assert!(!same(&request("mutation{b(a:\"x y\")}", ""), &request("mutation{b(a:\"x  y\")}", "")));
    assert!(!same(&request("mutation{a b}", ""), &request("mutation{ab}", "")));
    assert!(!same(&request("mutation{a}", ""), &request("mutation{a}", r#","variables":{}"#)));
}

#[test]
fn tokens_and_what_stands_around_them_cannot_be_confused() {
    let rules = rules();
    // The same bytes, divided in another place.
    let (a, b) =
        (request("mutation{a(x:\"b\")}", ""), request("mutation{a(x:\"b\")}", r#","operationName":null"#));
    assert_ne!(read(&a, &rules), read(&b, &rules));
    let batch = |documents: &[&str]| {
        format!("[{}]", documents.iter().map(|document| request(document, "")).collect::<Vec<_>>().join(","))
    };
    assert_ne!(
        read(&batch(&["mutation{a}", "mutation{b}"]), &rules),
        read(&batch(&["mutation{b}", "mutation{a}"]), &rules)
    );
    assert_ne!(read(&batch(&["mutation{a}"]), &rules), read(&request("mutation{a}", ""), &rules));
}

#[test]
fn one_write_in_a_batch_makes_it_a_write() {
    let judge = |body: &str| {
        let meaning = read(body, &rules());
        (meaning.kind, meaning.read)
    };
    assert_eq!(judge(r#"[{"query":"{a}"},{"query":"{b}"}]"#), (Kind::Graphql, true));
    assert_eq!(judge(r#"[{"query":"{a}"},{"query":"mutation{b}"}]"#), (Kind::Graphql, false));
    assert_eq!(judge(r#"[{"query":"mutation{b}"},{"query":"{a}"}]"#), (Kind::Graphql, false));
    assert_eq!(judge(r#"[{"query":"{a}"},{"query":"mutation{"}]"#), (Kind::Json, false));
    let many = format!("[{}]", vec![r#"{"query":"{a}"}"#; super::BATCH_MAX + 1].join(","));
    assert_eq!(judge(&many), (Kind::Json, false));
}

#[test]
fn variables_can_be_ignored_by_path() {
    let rules = Rules::new(&[JsonPath::parse("$.variables.t").expect("a path")], &[], 1 << 20);
    let at = |t: u32| request("mutation{a}", &format!(r#","variables":{{"t":{t},"x":1}}"#));
    assert_eq!(read(&at(1), &rules), read(&at(2), &rules));
}

#[test]
fn a_route_can_do_without() {
    let body = request("{ a }", "");
    let meaning = read(&body, &rules().with_graphql(GraphqlRule::Off));
    assert_eq!((meaning.kind, meaning.read), (Kind::Json, false));
}

#[test]
fn a_bare_document_has_a_media_type_of_its_own() {
    let bare = |body: &'static str| {
        let content_type = Some(&b"application/graphql"[..]);
        meaning(
            &BodyInput { content_type, content_encoding: None, query: None, body: body.as_bytes() },
            &rules(),
        )
    };
    assert!(bare("{ a }").read);
    assert_eq!(bare("mutation { a }"), bare("mutation{a,}"));
    assert_ne!(bare("mutation { a }"), bare("mutation { b }"));
    assert_eq!(bare("mutation {").kind, Kind::Raw);
}
