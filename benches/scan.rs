//! What the scanner costs a request.
//!
//! `cargo bench --bench scan`. With `count` as its argument it scans the usual head that many times and ends, for
//! `valgrind --tool=callgrind`: instructions per head are the difference between two counts.

use criterion::{Criterion, criterion_group};
use oncegate::gateway::scan::{Limits, Scanner};
use std::hint::black_box;

/// A browser's GET: eight headers.
const GET: &[u8] =
    b"GET /api/bookings?clinic=12&date=2026-03-14 HTTP/1.1\r\nHost: scheduling.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: application/json, text/plain, */*\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\
    Cookie: session=8e03978e40d543ddbc936894a57f9324; theme=dark\r\nX-Requested-With: XMLHttpRequest\r\n\r\n";

/// What the side-by-side load generators send.
const SHORT: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

fn chunked() -> Vec<u8> {
    let mut text = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..16 {
        text.extend_from_slice(b"1000\r\n");
        text.extend_from_slice(&[b'x'; 0x1000]);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    text
}

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    let chunked = chunked();
    for (name, text) in [("8 headers", GET), ("1 header", SHORT), ("16 chunks of 4 KiB", &chunked)] {
        let mut scanner = Scanner::new(Limits::DEFAULT);
        group.bench_function(name, |bencher| bencher.iter(|| scanner.scan(black_box(text))));
    }
    group.finish();
}

criterion_group!(benches, scan);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let counted = arguments.next().filter(|first| first == "count");
    let Some(_) = counted else {
        benches();
        return Criterion::default().configure_from_args().final_summary();
    };
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1_000_u32);
    let mut scanner = Scanner::new(Limits::DEFAULT);
    for _ in 0..count {
        black_box(scanner.scan(black_box(GET)));
    }
}
