//! Systematic mutations of what frames a request. In each, one reading holds the text of another request inside the body,
//! and another reading sets it free.

/// The request that must never arrive as one.
const FREED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\nX: ";

/// A mutation: its kind, and the bytes.
pub type Mutation = (&'static str, Vec<u8>);

const SEPARATORS: [&[u8]; 13] = [
    b": ", b":", b" : ", b" :", b"\t:", b":\t", b": \t ", b":\x0b", b":\x0c ", b":\r\n ", b":\n ", b":\r ",
    b":\0",
];
const ENDS: [&[u8]; 11] = [
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\n\n",
    b"\r\n\r",
    b"\0\r\n",
    b"\x0b\r\n",
    b"\x85",
    b" \r\n",
    b"\t\r\n",
];
const CODINGS: [&[u8]; 26] = [
    b"chunked",
    b"Chunked",
    b"CHUNKED",
    b" chunked",
    b"chunked ",
    b"chunked\t",
    b"xchunked",
    b"chunkedx",
    b"chunke",
    b"chunked,",
    b",chunked",
    b"chunked, chunked",
    b"chunked, identity",
    b"identity, chunked",
    b"identity",
    b"gzip, chunked",
    b"\"chunked\"",
    b"'chunked'",
    b"chunked;q=1",
    b"chun\tked",
    b"chunked\0",
    b"\0chunked",
    b"\x0bchunked",
    b"chunked\xff",
    b"ch\xc3\xbcnked",
    b"",
];
const LENGTHS: [&str; 26] = [
    "N", "+N", "-N", "0N", "00N", "0xN", "N ", " N", "N\t", "N,", "N, N", "N,0", "0, N", "N N", "N;", "N.0",
    "Ne0", "\"N\"", "'N'", "N\0", "\x0bN", "N\x0b", "N_0", "1_N", "\u{ff15}", "",
];

/// How a header's name is spelled otherwise.
fn names(name: &str) -> Vec<Vec<u8>> {
    let dash = name.find('-').unwrap_or_default();
    let with = |at: usize, text: &[u8]| [&name.as_bytes()[..at], text, &name.as_bytes()[at..]].concat();
    let instead = |text: &[u8]| [&name.as_bytes()[..dash], text, &name.as_bytes()[dash + 1..]].concat();
    let mut names: Vec<Vec<u8>> =
        [name.to_owned(), name.to_lowercase(), name.to_uppercase()].map(String::into_bytes).to_vec();
    names
        .extend([&b"_"[..], b".", b" ", b"", b"--", b"\xe2\x80\x90", b"\0", b"-\t", b"/", b"~"].map(instead));
    for text in [
        &b" "[..],
        b"\t",
        b"\0",
        b"\x0b",
        b"\r",
        b"\n",
        b"_",
        b"-",
        b".",
        b"\xa0",
        b"\xc2\xa0",
        b"\xef\xbb\xbf",
        b"X",
        b"\"",
        b":",
    ] {
        names.push(with(0, text));
        names.push(with(name.len(), text));
        names.push(with(4, text));
    }
    names
}

/// A request of these header lines; its body ends for a reader of chunks before the freed request, and for a reader of
/// lengths behind it.
fn with_length(lines: &[u8]) -> Vec<u8> {
    let body = format!("0\r\n\r\n{FREED}");
    let length = format!("Content-Length: {}\r\n", body.len());
    let lines = String::from_utf8_lossy(lines).contains("{length}").then(|| {
        let (front, back) = split(lines, b"{length}");
        [front, length.as_bytes(), back].concat()
    });
    request(&lines.unwrap_or_default(), body.as_bytes())
}

fn split<'a>(text: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = text.windows(mark.len()).position(|window| window == mark).unwrap_or(text.len());
    (&text[..at], &text[at + mark.len()..])
}

/// The same the other way round: a reader of chunks finds the freed request in a chunk, one of lengths behind the body.
fn with_chunks(lines: &[u8]) -> Vec<u8> {
    let body = format!("{:x}\r\n{FREED}\r\n0\r\n\r\n", FREED.len());
    request(lines, body.as_bytes())
}

fn request(lines: &[u8], body: &[u8]) -> Vec<u8> {
    [&b"POST /carrier HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"[..], lines, b"\r\n", body].concat()
}

/// All of them.
pub fn all() -> Vec<Mutation> {
    let mut all = codings();
    all.extend(lengths());
    all.extend(chunks());
    all.extend(lines());
    all
}

/// A length, and a coding that some read and some do not.
fn codings() -> Vec<Mutation> {
    let mut headers: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let names = names("Transfer-Encoding");
    for name in &names {
        for separator in SEPARATORS {
            headers.push(("a coding's name and its colon", [name, separator, &b"chunked\r\n"[..]].concat()));
        }
    }
    for separator in SEPARATORS {
        for value in CODINGS {
            headers.push((
                "a coding's colon and its value",
                [b"Transfer-Encoding", separator, value, b"\r\n"].concat(),
            ));
        }
    }
    for end in ENDS {
        headers.push(("a coding's line end", [b"Transfer-Encoding: chunked", end].concat()));
        headers
            .push(("a line end before a coding", [b"A: b", end, b"Transfer-Encoding: chunked\r\n"].concat()));
    }
    for value in CODINGS {
        let double = [b"Transfer-Encoding: ", value, b"\r\nTransfer-Encoding: chunked\r\n"].concat();
        headers.push(("a coding twice", double));
        headers.push((
            "a coding among others",
            [b"Transfer-Encoding: chunked\r\nA: b\r\nTransfer-Encoding: ", value, b"\r\n"].concat(),
        ));
    }
    let placed = headers.into_iter().enumerate().map(|(number, (kind, header))| {
        // Before and behind the length in turn.
        let lines = if number % 2 == 0 {
            [&header[..], b"{length}"].concat()
        } else {
            [b"{length}", &header[..]].concat()
        };
        (kind, with_length(&lines))
    });
    placed.collect()
}

/// Chunks, and a length that some read and some do not; and lengths alone.
fn lengths() -> Vec<Mutation> {
    let mut all = Vec::new();
    let coding = &b"Transfer-Encoding: chunked\r\n"[..];
    for name in names("Content-Length") {
        for separator in &SEPARATORS[..5] {
            let header = [&name, *separator, b"4\r\n"].concat();
            all.push(("chunks, and a length's name", with_chunks(&[coding, &header].concat())));
        }
    }
    for value in LENGTHS {
        for separator in &SEPARATORS[..4] {
            let header =
                [b"Content-Length", *separator, value.replace('N', "4").as_bytes(), b"\r\n"].concat();
            all.push(("chunks, and a length's value", with_chunks(&[&header, coding].concat())));
        }
        let body = format!("0\r\n\r\n{FREED}");
        let header = format!("Content-Length: {}\r\n", value.replace('N', &body.len().to_string()));
        if value != "N" {
            all.push(("a length's value", request(header.as_bytes(), body.as_bytes())));
        }
        let twice = format!("{header}Content-Length: 5\r\n");
        all.push(("a length twice", request(twice.as_bytes(), body.as_bytes())));
        let twice = format!("Content-Length: {}\r\ncontent-length: 5\r\n", body.len());
        all.push(("a length twice", request(format!("X: {value}\r\n{twice}").as_bytes(), body.as_bytes())));
    }
    all
}

/// Chunks that are not quite chunks.
fn chunks() -> Vec<Mutation> {
    let mut all = Vec::new();
    let coding = b"Transfer-Encoding: chunked\r\n";
    let size = format!("{:x}", FREED.len());
    let freed = FREED.as_bytes();
    for size in [
        format!("0x{size}"),
        format!("+{size}"),
        format!("-{size}"),
        format!(" {size}"),
        format!("{size} "),
        format!("{size}\t"),
        format!("{size}\0"),
        format!("\0{size}"),
        format!("{size}_"),
        format!("_{size}"),
        format!("{size}."),
        format!("{size},0"),
        format!("{size}g"),
        format!("0{size}0000000000000000"),
        format!("{:0>17}", size),
        format!("fffffffffffffff{size}"),
        format!("100000000000000{size}"),
        format!("80000000000000{size}"),
        String::new(),
        "g".into(),
        "\u{ff15}".into(),
        format!("{size};"),
        format!("{size};="),
        format!("{size};a="),
        format!("{size};a=\""),
        format!("{size};a=\"b"),
        format!("{size};a=b c"),
        format!("{size};a\0"),
        format!("{size};\x0b"),
        format!("{size};a=\"b\\\""),
        format!("{size} a"),
        format!("{size};a,b"),
        format!("{size}\x0b"),
    ] {
        let body = [size.as_bytes(), b"\r\n", freed, b"\r\n0\r\n\r\n"].concat();
        all.push(("a chunk's size", request(coding, &body)));
    }
    for end in ENDS.iter().take(9).chain([&&b""[..], &&b"\r\n\r\n"[..], &&b"x"[..], &&b"\r\nx"[..]]) {
        all.push((
            "the line end behind a size",
            request(coding, &[size.as_bytes(), end, freed, b"\r\n0\r\n\r\n"].concat()),
        ));
        all.push((
            "the line end behind a chunk",
            request(coding, &[size.as_bytes(), b"\r\n", freed, end, b"0\r\n\r\n"].concat()),
        ));
        all.push(("the end of all chunks", request(coding, &[&b"0"[..], end, freed].concat())));
        all.push((
            "an extension's line end",
            request(coding, &[size.as_bytes(), b";a=b", end, freed, b"\r\n0\r\n\r\n"].concat()),
        ));
    }
    for trailer in names("Content-Length").into_iter().chain(names("Transfer-Encoding")).chain(names("Host"))
    {
        let body = [size.as_bytes(), b"\r\n", freed, b"\r\n0\r\n", &trailer, b": 5\r\n\r\n"].concat();
        all.push(("a trailer that frames", request(coding, &body)));
    }
    all
}

/// Line ends of the whole head, and lines that are none.
fn lines() -> Vec<Mutation> {
    let mut all = Vec::new();
    let body = format!("0\r\n\r\n{FREED}");
    let lines = [
        "POST /carrier HTTP/1.1",
        "Host: a",
        "Accept: */*",
        &format!("Content-Length: {}", body.len()),
        "Connection: close",
    ];
    for place in 0..lines.len() {
        for end in ENDS.iter().take(9) {
            let mut head = Vec::new();
            for (at, line) in lines.iter().enumerate() {
                head.extend_from_slice(line.as_bytes());
                head.extend_from_slice(if at == place { end } else { b"\r\n" });
            }
            all.push((
                "a line end of the head",
                [&head[..], b"Transfer-Encoding: chunked\r\n\r\n", body.as_bytes()].concat(),
            ));
            all.push(("a line end of the head", [&head[..], b"\r\n", body.as_bytes()].concat()));
        }
    }
    for line in [
        "GET /smuggled HTTP/1.1",
        "A",
        ": a",
        " a",
        "\ta",
        "a b",
        "\0",
        "A:\0",
        "A: \x01",
        "A: b\r\n c",
        "A: b\r\n\tc: d",
    ] {
        for place in ["first", "last"] {
            let length = format!("Content-Length: {}\r\n", body.len());
            let head =
                if place == "first" { format!("{line}\r\n{length}") } else { format!("{length}{line}\r\n") };
            all.push(("a line that is no header", request(head.as_bytes(), body.as_bytes())));
        }
    }
    for version in [
        "HTTP/1.0",
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2",
        "HTTP/11",
        "http/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1\0",
        "",
        "HTTP/1.1\x0b",
    ] {
        let chunked = format!(
            "POST /carrier {version}\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        );
        all.push(("a version", chunked.into_bytes()));
    }
    all
}
