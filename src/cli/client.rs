//! One request to the admin API and its answer, with errors that say what to do.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// For a whole call.
const CALL_MAX: Duration = Duration::from_secs(15);
/// Bytes of an answer; a page of a thousand records is far below.
const ANSWER_MAX: usize = 16 << 20;

/// Where the admin API is.
#[derive(Debug)]
pub(in crate::cli) struct Client {
    host: String,
    port: u16,
    authority: String,
    token: Option<String>,
}

/// Why a command was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Failure {
    /// The arguments or the configuration are wrong.
    Usage(String),
    /// Nobody answers there.
    Unreachable(String),
    /// The admin API answered, and did not do it.
    Refused(String),
}

// === impl Client ===

impl Client {
    /// `url`: `http://HOST:PORT`, nothing behind it.
    pub(in crate::cli) fn new(url: &str, token: Option<String>) -> Result<Client, Failure> {
        let wrong = |why: &str| Failure::usage(format!("--admin {url:?}: {why}; write http://HOST:PORT"));
        let uri: Uri = url.parse().map_err(|_| wrong("this is no URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong("the admin address speaks http only, so reach it through a tunnel"));
            }
            _ => return Err(wrong("it does not begin with http://")),
        }
        if !matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/" | "")) {
            return Err(wrong("a path is not part of it"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("credentials are not part of it, the token goes into --token"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Client { host, port, authority: authority.to_string(), token })
    }

    /// Sends one request; gives the body of a 2xx answer.
    pub(in crate::cli) fn call(
        &self,
        method: Method,
        path: &str,
        json: Option<Vec<u8>>,
    ) -> Result<Bytes, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Unreachable(format!("no network here: {error}")))?;
        let exchange = async {
            tokio::time::timeout(CALL_MAX, self.exchange(method, path, json)).await.unwrap_or_else(|_| {
                Err(self.unreachable(&format!("no answer within {} s", CALL_MAX.as_secs())))
            })
        };
        let (status, body) = runtime.block_on(exchange)?;
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        json: Option<Vec<u8>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let stream = tokio::net::TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let broken = |error: hyper::Error| self.unreachable(&format!("the connection broke ({error})"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.authority);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if json.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(json.unwrap_or_default())))
            .map_err(|error| Failure::usage(format!("the token or address cannot be sent: {error}")))?;
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| self.unreachable(&format!("the answer broke off ({error})")))?;
        connection.abort();
        Ok((head.status, body.to_bytes()))
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(format!(
            "the admin address http://{} cannot be reached: {why}\n  \
             is oncegate running there? Its address is `listen` in [admin] of the config.toml that it runs with; \
             name another file with --config PATH, or the address with --admin http://HOST:PORT",
            self.authority
        ))
    }
}

/// Reads an answer of the admin API.
pub(in crate::cli) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        Failure::Refused(format!("what answered is not this version of oncegate's admin address ({error})"))
    })
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(serde::Deserialize)]
    struct Problem {
        title: String,
        detail: String,
    }
    if status == StatusCode::UNAUTHORIZED {
        return Failure::Refused(
            "the admin token is missing or wrong\n  \
             put the token of [admin] into the variable ONCEGATE_ADMIN_TOKEN, or name the configuration with --config"
                .into(),
        );
    }
    match serde_json::from_slice(body) {
        Ok(Problem { title, detail }) => Failure::Refused(format!("{title}\n  {detail}")),
        Err(_) => Failure::Refused(format!("what answered with {status} is not oncegate's admin address")),
    }
}

// === impl Failure ===

impl Failure {
    pub(in crate::cli) fn usage(why: impl std::fmt::Display) -> Failure {
        Failure::Usage(why.to_string())
    }

    pub(in crate::cli) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) | Failure::Refused(_) => 1,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Usage(why) | Failure::Unreachable(why) | Failure::Refused(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_is_a_host_and_a_port_and_nothing_else() {
        for (url, host, port) in [
            ("http://localhost:9090", "localhost", 9090),
            ("http://[::1]:9090/", "::1", 9090),
            ("http://gate", "gate", 80),
        ] {
            let client = Client::new(url, None).expect(url);
            assert_eq!((client.host.as_str(), client.port), (host, port), "{url}");
        }
        for (url, why) in [
            ("localhost:9090", "http://HOST:PORT"),
            ("https://localhost:9090", "tunnel"),
            ("http://localhost:9090/api", "path"),
            ("http://me:secret@localhost:9090", "--token"),
            ("http://", "http://HOST:PORT"),
        ] {
            let failure = Client::new(url, None).expect_err(url);
            assert!(matches!(&failure, Failure::Usage(text) if text.contains(why)), "{url}: {failure}");
        }
    }

    #[test]
    fn an_address_where_nobody_listens_is_explained() {
        // Bound and closed again: nobody else listens on it at this moment.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let client = Client::new(&format!("http://{address}"), None).expect("a URL");
        let failure = client.call(Method::GET, "/api/claims", None).expect_err("nobody answers");
        let text = failure.to_string();
        assert!(matches!(failure, Failure::Unreachable(_)), "{text}");
        for hint in [&address.to_string(), "is oncegate running there?", "--admin", "--config"] {
            assert!(text.contains(hint), "{hint} in {text}");
        }
    }
}
