//! Content codings: whatever comes ends under the cap, and what is not understood counts as it came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::domain::canon::{BodyInput, Rules, meaning};

const DECODED_BYTES_MAX: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let coding = ["gzip", "deflate", "br"][usize::from(*choice) % 3];
    let input = BodyInput {
        content_type: Some(b"text/plain"),
        content_encoding: Some(coding.as_bytes()),
        query: None,
        body,
    };
    let rules = Rules::new(&[], &[], DECODED_BYTES_MAX);
    let decoded = meaning(&input, &rules);
    let plain = meaning(&BodyInput { content_encoding: None, body: &decoded.body, ..input }, &rules);
    match decoded.head == plain.head {
        true => assert!(decoded.body.len() <= DECODED_BYTES_MAX.min(body.len() * 100)),
        false => assert_eq!(&*decoded.body, body),
    }
});
