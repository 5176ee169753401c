use super::super::{BodyInput, Kind, Meaning, Rules, meaning};
use super::RATIO_MAX;
use std::io::Write;

const BODY: &[u8] =
    br#"{"b":1,"a":[1,2,3],"text":"the quick brown fox and the quick brown dog and the quick brown cat"}"#;
/// The same, compressed by the reference implementation.
const BODY_BROTLI: &[u8] = b"\
    \x1b\x5f\x00\xf8\x1d\x07\x76\x2c\xb3\x8d\x20\x3d\xec\xac\xe4\x20\xec\x96\xea\xee\x43\x1b\x2d\x4a\x63\
    \x90\xac\x2c\xb8\x53\x3a\x7d\xc5\xd2\x05\x1b\x70\x40\x90\x61\x66\x01\xe0\xa4\xe7\x09\xde\x60\xf4\x7d\
    \x3a\x14\x86\xa6\x8a\x1a\x39\x5f\x82\x3c\x1b\x64\xda\xb8\xe2\x89\x5d\x17\xec\xb1\x1b\x96\x04\
";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all")
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all")
}

fn read<'a>(encoding: &str, body: &'a [u8], decoded_bytes_max: usize) -> Meaning<'a> {
    let input = BodyInput {
        content_type: Some(b"application/json"),
        content_encoding: Some(encoding.as_bytes()),
        query: None,
        body,
    };
    meaning(&input, &Rules::new(&[], &[], decoded_bytes_max))
}

#[test]
fn an_encoded_body_means_what_it_encodes() {
    let identity = read("identity", BODY, 1000);
    assert_eq!(identity.kind, Kind::Json);
    assert_eq!(read("", BODY, 1000), identity);
    assert_eq!(read("gzip", &gzip(BODY), 1000), identity);
    assert_eq!(read(" X-GZIP", &gzip(BODY), 1000), identity);
    assert_eq!(read("deflate", &zlib(BODY), 1000), identity);
    assert_eq!(read("br", BODY_BROTLI, 1000), identity);
}

#[test]
fn gzip_headers_with_a_name_and_a_time_mean_nothing() {
    let named = flate2::GzBuilder::new().filename("a.json").comment("c").extra(b"xx".as_slice()).mtime(99);
    let mut encoder = named.write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(BODY).expect("a Vec takes all");
    let named = encoder.finish().expect("a Vec takes all");
    assert_eq!(read("gzip", &named, 1000), read("gzip", &gzip(BODY), 1000));
}

#[test]
fn what_cannot_be_undone_without_doubt_counts_as_it_came() {
    let gzipped = gzip(BODY);
    let two_members = [gzip(b"{}"), gzip(b"1")].concat();
    let trailing = [&gzipped[..], b"x"].concat();
    let cut = &gzipped[..gzipped.len() - 1];
    let mut wrong_sum = gzipped.clone();
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 1;
    let (zlib_trailing, zlib_whole) = ([zlib(BODY), b"x".to_vec()].concat(), zlib(BODY));
    let brotli_trailing = [BODY_BROTLI, b"x"].concat();
    for (encoding, body) in [
        ("gzip", &two_members[..]),
        ("gzip", &trailing),
        ("gzip", cut),
        ("gzip", &wrong_sum),
        ("gzip", b""),
        ("gzip", BODY),
        ("gzip", &gzipped[..9]),
        ("deflate", &zlib_trailing),
        ("deflate", &zlib_whole[..zlib_whole.len() - 2]),
        ("deflate", b""),
        ("br", &brotli_trailing),
        ("br", &BODY_BROTLI[..BODY_BROTLI.len() - 1]),
        ("br", b""),
        ("br", BODY),
        ("zstd", BODY),
        ("gzip, br", &gzipped),
    ] {
        let meaning = read(encoding, body, 1000);
        assert_eq!((meaning.kind, &*meaning.body), (Kind::Raw, body), "{encoding} {body:?}");
        // The same bytes said to be something else are something else.
        assert_ne!(meaning.head, read("identity", b"{", 1000).head);
        assert_ne!(meaning.head, read("other", body, 1000).head);
    }
}

#[test]
fn decoding_stops_at_the_cap() {
    let gzipped = gzip(BODY);
    assert_eq!(read("gzip", &gzipped, BODY.len()).kind, Kind::Json);
    assert_eq!(read("gzip", &gzipped, BODY.len() - 1).kind, Kind::Raw);
    assert_eq!(read("deflate", &zlib(BODY), BODY.len() - 1).kind, Kind::Raw);
    assert_eq!(read("br", BODY_BROTLI, BODY.len()).kind, Kind::Json);
    assert_eq!(read("br", BODY_BROTLI, BODY.len() - 1).kind, Kind::Raw);
}

#[test]
fn decoding_stops_at_the_ratio() {
    let bomb = |bytes: usize| [b"\"".as_slice(), &vec![b'a'; bytes], b"\""].concat();
    let over = gzip(&bomb(10_000_000));
    assert!(over.len() * RATIO_MAX < 10_000_000, "it is a bomb");
    assert_eq!(read("gzip", &over, usize::MAX).kind, Kind::Raw);
    let fair = gzip(&bomb(2_000));
    assert!(fair.len() * RATIO_MAX > 2_002, "it is none");
    assert_eq!(read("gzip", &fair, usize::MAX).kind, Kind::Json);
}
