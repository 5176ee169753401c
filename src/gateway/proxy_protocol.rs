//! The PROXY protocol, versions 1 and 2: the first bytes with which a load balancer says whose connection it passes on.
//!
//! Only `clients.trusted_proxies` are listened to. From anybody else the same bytes are the beginning of a request, and a
//! malformed one, which the scanner refuses. The header is read to its last byte and not one further, so that whatever
//! follows (a TLS handshake, a request) finds its own bytes untouched.

use ppp::{v1, v2};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who connected to the load balancer; `None` where it speaks for itself (a health check) or does not know.
    pub client: Option<IpAddr>,
    /// Whether that connection was TLS, which only version 2 can say.
    pub secure: bool,
}

/// The longest first version, with its line end (the specification's own figure).
const V1_BYTES_MAX: usize = 107;
/// The longest second version that is read: addresses take up to 216 bytes, the rest is what a load balancer adds.
const V2_BYTES_MAX: usize = 4 << 10;
/// Of the second version: signature, command, family, length.
const V2_FRONT_BYTES: usize = 16;
/// How the first version begins. No method of HTTP has these letters and a space.
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// The extension in which a load balancer tells of its own TLS (section 2.2.6), and the bit that says that there was any.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;
/// Between two looks at a beginning that is too short to be told apart.
const AGAIN: Duration = Duration::from_millis(5);

/// Reads the header at the front of a connection; `None` where it begins with something else, of which nothing was read.
///
/// # Errors
/// A malformed header, one that is longer than anybody needs, and the end of the connection.
pub async fn read(stream: &mut TcpStream) -> io::Result<Option<Told>> {
    match beginning(stream).await? {
        Beginning::Other => Ok(None),
        Beginning::V1 => read_v1(stream).await.map(Some),
        Beginning::V2 => read_v2(stream).await.map(Some),
    }
}

enum Beginning {
    V1,
    V2,
    Other,
}

async fn beginning(stream: &TcpStream) -> io::Result<Beginning> {
    let mut bytes = [0; 12];
    loop {
        let front = match stream.peek(&mut bytes).await? {
            0 => return Ok(Beginning::Other),
            count => &bytes[..count],
        };
        let is = |signature: &[u8]| {
            let common = signature.len().min(front.len());
            (signature[..common] == front[..common]).then_some(common == signature.len())
        };
        match (is(V1_SIGNATURE), is(v2::PROTOCOL_PREFIX)) {
            (Some(true), _) => return Ok(Beginning::V1),
            (_, Some(true)) => return Ok(Beginning::V2),
            (None, None) => return Ok(Beginning::Other),
            // Too short to tell; the caller's deadline bounds how often this is looked at.
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// A line. What is looked at ahead is taken as far as the line goes, so that nothing is looked at twice.
async fn read_v1(stream: &mut TcpStream) -> io::Result<Told> {
    let (mut bytes, mut length) = ([0; V1_BYTES_MAX], 0);
    loop {
        let ahead = stream.peek(&mut bytes[length..]).await?;
        if ahead == 0 {
            return Err(malformed("it ends in its middle"));
        }
        let end = bytes[length..length + ahead].iter().position(|&byte| byte == b'\n');
        let take = end.map_or(ahead, |end| end + 1);
        stream.read_exact(&mut bytes[length..length + take]).await?;
        length += take;
        if end.is_some() {
            return parse_v1(&bytes[..length]);
        }
        if length == V1_BYTES_MAX {
            return Err(malformed("its line is longer than 107 bytes"));
        }
    }
}

fn parse_v1(line: &[u8]) -> io::Result<Told> {
    let header = v1::Header::try_from(line).map_err(|error| malformed(&error.to_string()))?;
    let client = match header.addresses {
        v1::Addresses::Tcp4(addresses) => Some(IpAddr::V4(addresses.source_address)),
        v1::Addresses::Tcp6(addresses) => Some(IpAddr::V6(addresses.source_address)),
        v1::Addresses::Unknown => None,
    };
    Ok(Told { client: client.map(|address| address.to_canonical()), secure: false })
}

async fn read_v2(stream: &mut TcpStream) -> io::Result<Told> {
    let mut bytes = vec![0; V2_FRONT_BYTES];
    stream.read_exact(&mut bytes).await?;
    let length = V2_FRONT_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > V2_BYTES_MAX {
        return Err(malformed("it is longer than 4096 bytes"));
    }
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[V2_FRONT_BYTES..]).await?;
    parse_v2(&bytes)
}

fn parse_v2(bytes: &[u8]) -> io::Result<Told> {
    let header = v2::Header::try_from(bytes).map_err(|error| malformed(&error.to_string()))?;
    if header.command == v2::Command::Local {
        return Ok(Told { client: None, secure: false });
    }
    if header.protocol == v2::Protocol::Datagram {
        return Err(malformed("it tells of datagrams"));
    }
    let client = match header.addresses {
        v2::Addresses::IPv4(addresses) => Some(IpAddr::V4(addresses.source_address)),
        v2::Addresses::IPv6(addresses) => Some(IpAddr::V6(addresses.source_address)),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    };
    let mut secure = false;
    for extension in header.tlvs() {
        let extension = extension.map_err(|error| malformed(&error.to_string()))?;
        secure |=
            extension.kind == TLV_SSL && extension.value.first().is_some_and(|bits| bits & CLIENT_SSL != 0);
    }
    Ok(Told { client: client.map(|address| address.to_canonical()), secure })
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("a malformed PROXY header: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// What is read of a connection that begins with `pieces`, and the bytes that are left behind.
    fn through(pieces: &[&[u8]]) -> (io::Result<Option<Told>>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let send = async {
                let mut client = TcpStream::connect(address).await.expect("a connection");
                client.set_nodelay(true).expect("an option");
                for piece in pieces {
                    client.write_all(piece).await.expect("written");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let receive = async {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let told = read(&mut stream).await;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.expect("the rest");
                (told, rest)
            };
            tokio::join!(send, receive).1
        })
    }

    fn told(client: &str, secure: bool) -> Told {
        Told { client: client.parse().ok(), secure }
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = [v2::PROTOCOL_PREFIX, &[command, family]].concat();
        bytes.extend_from_slice(&u16::try_from(body.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn both_versions_name_the_client_and_leave_what_follows_alone() {
        let v4 = b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n";
        let v6 = b"PROXY TCP6 ::ffff:203.0.113.9 2001:db8::1 5000 443\r\n";
        let binary = version_2(0x21, 0x11, &[203, 0, 113, 9, 192, 0, 2, 1, 0, 80, 1, 187]);
        for header in [&v4[..], v6, &binary] {
            for cut in [1, 5, 8, header.len() - 1, header.len()] {
                let (front, back) = header.split_at(cut);
                let (read, rest) = through(&[front, back, b"GET / HTTP/1.1\r\n"]);
                assert_eq!(read.expect("well-formed"), Some(told("203.0.113.9", false)), "cut at {cut}");
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[test]
    fn health_checks_and_unknown_clients_keep_the_connections_own_address() {
        let nobody = Some(Told { client: None, secure: false });
        let local = version_2(0x20, 0x00, &[]);
        let unix = version_2(0x21, 0x31, &[0; 216]);
        let texts: [&[u8]; 4] = [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::2 1 2\r\n", &local, &unix];
        for header in texts {
            assert_eq!(through(&[header]).0.expect("well-formed"), nobody);
        }
    }

    #[test]
    fn a_load_balancers_tls_is_told() {
        let mut body = vec![203, 0, 113, 9, 192, 0, 2, 1, 0, 80, 1, 187];
        body.extend_from_slice(&[TLV_SSL, 0, 5, CLIENT_SSL, 0, 0, 0, 0]);
        let read = through(&[&version_2(0x21, 0x11, &body)]).0;
        assert_eq!(read.expect("well-formed"), Some(told("203.0.113.9", true)));
    }

    #[test]
    fn malformed_headers_are_errors_and_bounded() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let huge = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff], &[0; 64]].concat();
        let datagrams = version_2(0x21, 0x12, &[203, 0, 113, 9, 192, 0, 2, 1, 0, 80, 1, 187]);
        let short = version_2(0x21, 0x11, &[203, 0]);
        let version_3 = version_2(0x31, 0x11, &[0; 12]);
        let texts: [&[u8]; 8] = [
            b"PROXY TCP4 203.0.113.9\r\n",
            b"PROXY TCP4 nobody 192.0.2.1 5000 443\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\n",
            &long,
            &huge,
            &datagrams,
            &short,
            &version_3,
        ];
        for text in texts {
            assert!(through(&[text]).0.is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn anything_else_is_left_as_it_is() {
        for text in [&b"GET / HTTP/1.1\r\n"[..], b"PROPFIND / HTTP/1.1\r\n", b"\x16\x03\x01", b"\r\nGET /"] {
            let (read, rest) = through(&[text]);
            assert_eq!((read.expect("no header"), rest), (None, text.to_vec()));
        }
        let (read, rest) = through(&[b"P", b"UT / HTTP/1.1\r\n"]);
        assert_eq!((read.expect("no header"), rest), (None, b"PUT / HTTP/1.1\r\n".to_vec()));
    }
}
