//! Multipart: what is understood, another reader understands in the same way; and one meaning only where it finds the
//! same parts.
#![no_main]

use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use oncegate::domain::canon::Kind;
use oncegate_fuzz::{body_and_variant, read, read_with_rules};
use std::collections::BTreeMap;

const MULTIPART: &str = "multipart/form-data; boundary=b";

/// Name by name: file name, content type and bytes of each part.
type Parts = BTreeMap<Option<String>, Vec<(Option<String>, Option<String>, Vec<u8>)>>;

fn by_another_reader(body: &[u8]) -> Option<Parts> {
    let body = bytes::Bytes::copy_from_slice(body);
    let mut form =
        multer::Multipart::new(futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]), "b");
    let mut parts = Parts::new();
    let mut read = async || -> Option<()> {
        while let Some(field) = form.next_field().await.ok()? {
            let name = field.name().map(str::to_owned);
            let file_name = field.file_name().map(str::to_owned);
            let content_type = field.headers().get("content-type").map(|value| format!("{value:?}"));
            parts.entry(name).or_default().push((
                file_name,
                content_type,
                field.bytes().await.ok()?.to_vec(),
            ));
        }
        Some(())
    };
    read().now_or_never().flatten().map(|()| parts)
}

fuzz_target!(|data: &[u8]| {
    let Some((body, variant)) = body_and_variant(data) else { return };
    // Fuzzing finds delimiters sooner where `|` stands for one.
    let spelled = |body: &[u8]| {
        let text = body
            .split(|byte| *byte == b'|')
            .collect::<Vec<_>>()
            .join(&b"\r\n--b\r\nContent-Disposition: form-data; name="[..]);
        [b"--b\r\nContent-Disposition: form-data; name=", &*text, b"\r\n--b--\r\n"].concat()
    };
    let (body, variant) = (spelled(body), spelled(&variant));
    let meaning = read(MULTIPART, &body);
    assert_eq!(meaning.kind, read_with_rules(MULTIPART, &body).kind);
    if meaning.kind != Kind::Multipart {
        assert_eq!(*meaning.body, body);
        return;
    }
    // The other reader takes no names that are not UTF-8.
    if std::str::from_utf8(&body).is_err() {
        return;
    }
    let Some(parts) = by_another_reader(&body) else { return };
    let count: usize = parts.values().map(Vec::len).sum();
    assert_eq!(
        count,
        body.windows(5).filter(|window| window == b"--b\r\n").count(),
        "as many parts as delimiters"
    );
    if read(MULTIPART, &variant) == meaning {
        assert_eq!(by_another_reader(&variant), Some(parts));
    }
});
