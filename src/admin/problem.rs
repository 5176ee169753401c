//! What the admin address answers when it cannot do what was asked: `application/problem+json` (RFC 9457).

use super::BODY_BYTES_MAX;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// A request that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) slug: &'static str,
    pub(super) title: &'static str,
    /// What happened and what to do.
    pub(super) detail: String,
}

// === impl Problem ===

impl Problem {
    pub(super) fn bad_request(detail: impl Into<String>) -> Problem {
        let (status, slug) = (StatusCode::BAD_REQUEST, "bad-request");
        Problem { status, slug, title: "The request is malformed", detail: detail.into() }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Problem {
        let (status, slug) = (StatusCode::NOT_FOUND, "not-found");
        Problem { status, slug, title: "There is no such thing here", detail: detail.into() }
    }

    pub(super) fn refused(detail: impl Into<String>) -> Problem {
        let (status, slug) = (StatusCode::FORBIDDEN, "cross-site");
        Problem {
            status,
            slug,
            title: "Requests on behalf of other sites are refused",
            detail: detail.into(),
        }
    }

    pub(super) fn token_required() -> Problem {
        Problem {
            status: StatusCode::UNAUTHORIZED,
            slug: "token-required",
            title: "The admin token is required",
            detail: "send the token of [admin] in config.toml as `Authorization: Bearer TOKEN`".into(),
        }
    }

    pub(super) fn not_in_doubt(detail: String) -> Problem {
        Problem {
            status: StatusCode::CONFLICT,
            slug: "not-in-doubt",
            title: "The record is not in doubt",
            detail,
        }
    }

    pub(super) fn at_work(detail: impl Into<String>) -> Problem {
        let (status, slug) = (StatusCode::CONFLICT, "at-work");
        Problem { status, slug, title: "A write is at work", detail: detail.into() }
    }

    pub(super) fn too_large() -> Problem {
        Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            slug: "body-too-large",
            title: "The request body is too large",
            detail: format!("the admin address takes {} MiB", BODY_BYTES_MAX >> 20),
        }
    }

    pub(super) fn busy() -> Problem {
        Problem {
            status: StatusCode::SERVICE_UNAVAILABLE,
            slug: "busy",
            title: "Too many requests at once",
            detail: "the admin address answers as many as it may; come back in a moment".to_owned(),
        }
    }

    pub(super) fn timeout(limit: Duration) -> Problem {
        Problem {
            status: StatusCode::GATEWAY_TIMEOUT,
            slug: "timeout",
            title: "The request took too long",
            detail: format!("it was not done within {} s; look whether it took effect", limit.as_secs()),
        }
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Problem {
        let (status, slug) = (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
        Problem { status, slug, title: "The store did not carry it out", detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": format!("urn:oncegate:problem:{}", self.slug),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(format!("{} is no path of the admin address", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem {
        status: StatusCode::METHOD_NOT_ALLOWED,
        slug: "method-not-allowed",
        title: "The path does not take this method",
        detail: format!("{method} is not for {}", uri.path()),
    }
}
