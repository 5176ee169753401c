//! What it costs to know what a request means: bodies, targets, and the digest over all of it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oncegate::domain::canon::{BodyInput, JsonPath, Rules, meaning};
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::{FingerprintKey, Parts};
use oncegate::domain::target::NormalTarget;
use std::hint::black_box;

/// A booking as a scheduling page sends it: 300 bytes, names in no order.
const BOOKING: &str = r#"{"clinicId":"5f0c9a52-1f4f-4f5c-9d4e-2a7b8f1e6c33","doctor":"dr-0042","date":"2026-11-22","slotIndex":17,"patient":{"name":"Asha Rao","phone":"+91 98450 12345","email":"asha.rao@example.com"},"reason":"follow-up visit","walkIn":false,"days":["mo","we","fr"],"amount":450.00,"client_time":1763800000123}"#;

const FORM: &str = "clinic=5f0c9a52&doctor=dr-0042&date=2026-11-22&slot=17&name=Asha+Rao&phone=%2B91+98450+12345&email=asha.rao%40example.com&reason=follow-up+visit";

const GRAPHQL: &str = r#"{"operationName":"Book","query":"mutation Book($i: BookingInput!) {\n  book(input: $i) {\n    id\n    token\n    slot { index date }\n  }\n}\n","variables":{"i":{"doctor":"dr-0042","date":"2026-11-22","slotIndex":17}}}"#;

fn rules(ignore: &[&str], unordered: &[&str]) -> Rules {
    let paths =
        |texts: &[&str]| texts.iter().map(|text| JsonPath::parse(text).expect("a path")).collect::<Vec<_>>();
    Rules::new(&paths(ignore), &paths(unordered), 1 << 20)
}

fn input<'a>(content_type: &'a str, body: &'a [u8]) -> BodyInput<'a, 'a> {
    BodyInput { content_type: Some(content_type.as_bytes()), content_encoding: None, query: None, body }
}

fn bodies(criterion: &mut Criterion) {
    let plain = rules(&[], &[]);
    let ruled = rules(&["$.client_time"], &["$.days"]);
    let sorted =
        String::from_utf8(meaning(&input("application/json", BOOKING.as_bytes()), &plain).body.into_owned())
            .expect("canonical JSON is UTF-8");
    let pretty = BOOKING.replace(',', ",\n  ").replace(':', ": ");
    let large = format!("[{}]", [BOOKING; 3000].join(","));
    let multipart = format!(
        "--b\r\nContent-Disposition: form-data; name=\"date\"\r\n\r\n2026-11-22\r\n--b\r\nContent-Disposition: form-data; \
         name=\"scan\"; filename=\"a.pdf\"\r\nContent-Type: application/pdf\r\n\r\n{}\r\n--b--\r\n",
        "x".repeat(4096)
    );
    let mut group = criterion.benchmark_group("meaning");
    for (name, content_type, body, rules) in [
        ("json booking", "application/json", BOOKING, &plain),
        ("json booking with rules", "application/json", BOOKING, &ruled),
        ("json booking sorted", "application/json", &*sorted, &plain),
        ("json booking pretty", "application/json", &*pretty, &plain),
        ("json 900 kB", "application/json", &*large, &plain),
        ("form", "application/x-www-form-urlencoded", FORM, &plain),
        ("multipart 4 kB file", "multipart/form-data; boundary=b", &*multipart, &plain),
        ("graphql mutation", "application/json", GRAPHQL, &plain),
        ("raw", "text/plain", BOOKING, &plain),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), body, |bencher, body| {
            bencher.iter(|| meaning(&input(content_type, black_box(body.as_bytes())), rules));
        });
    }
    group.finish();
    criterion.bench_function("json booking through serde_json::Value, for comparison", |bencher| {
        bencher.iter(|| {
            let value: serde_json::Value = serde_json::from_str(black_box(BOOKING)).expect("JSON");
            serde_json::to_vec(&value).expect("JSON")
        });
    });
}

fn targets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("target");
    for (name, target) in [
        ("normal", "/api/clinics/42/bookings?page=2&date=2026-11-22"),
        ("to be made", "/api//clinics/%34%32/./bookings?x=%2f"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| NormalTarget::parse(black_box(target)).map(|target| target.path().len()))
        });
    }
    group.finish();
}

fn digests(criterion: &mut Criterion) {
    let key = FingerprintKey::new(b"a secret of thirty-two bytes, so");
    let target = NormalTarget::parse("/api/bookings").expect("a target");
    let plain = rules(&[], &[]);
    let scope = ScopeId([7; 16]);
    let fingerprint = |body: &[u8]| {
        let meaning = meaning(&input("application/json", body), &plain);
        let method = &http::Method::POST;
        key.fingerprint(&Parts {
            scope: &scope,
            route: "book",
            method,
            authority: "clinic.example",
            target: &target,
            meaning: &meaning,
            headers: &[],
        })
    };
    let mut group = criterion.benchmark_group("digest");
    group.bench_function("booking, body to fingerprint", |bencher| {
        bencher.iter(|| fingerprint(black_box(BOOKING.as_bytes())))
    });
    let known = fingerprint(BOOKING.as_bytes());
    group.bench_function("record id", |bencher| {
        bencher.iter(|| key.record_id("book", &scope, Some(black_box(b"key")), &known))
    });
    group.bench_function("scope id", |bencher| {
        bencher.iter(|| key.scope_id(&[("header:x-api-key", black_box(b"0123456789abcdef"))]))
    });
    group.finish();
}

criterion_group!(benches, bodies, targets, digests);
criterion_main!(benches);
