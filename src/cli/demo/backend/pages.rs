//! What the backend does with a request, bugs included. Nothing here checks for duplicates, because the systems that
//! it stands for did not.

use super::body::Fields;
use super::fault::Fault;
use super::rows::{AssessmentError, Origin, Rows, Window};
use super::{Page, page};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long one availability exception is worked on; one after the other.
const EXCEPTION_WORK: Duration = Duration::from_millis(20);
/// The gap between counting the assessments and inserting one: the race of incident 5.
const NUMBERING_GAP: Duration = Duration::from_millis(25);

/// How long incident 3's page takes.
const PROFILE_WORK: Duration = Duration::from_millis(120);

/// The backend's own state.
pub struct Pages {
    /// The database.
    pub rows: Rows,
    /// Incident 1's backend works on one exception at a time.
    one_at_a_time: tokio::sync::Mutex<()>,
    /// Reads of incident 3's pages.
    reads: AtomicU64,
}

/// A request whose body has been read whole.
pub struct Request {
    /// Request method.
    pub method: Method,
    /// Path, undecoded.
    pub path: String,
    /// Query, undecoded.
    pub query: String,
    /// Request headers.
    pub headers: HeaderMap,
    /// Request body.
    pub body: Bytes,
}

// === impl Pages ===

impl Pages {
    /// Pages over `rows`.
    pub fn new(rows: Rows) -> Pages {
        Pages { rows, one_at_a_time: tokio::sync::Mutex::new(()), reads: AtomicU64::new(0) }
    }

    /// Answers `request`; a `fault` that says how to answer is obeyed before or after the work.
    pub async fn answer(&self, request: &Request, fault: &Fault) -> Page {
        if let Some(status) = fault.status {
            return failure(status, "as ordered: nothing was executed");
        }
        let done = self.work(request).await.unwrap_or_else(|error| failure(500, &error.to_string()));
        match fault.status_after {
            Some(status) => failure(status, "as ordered, although it was executed"),
            None => done,
        }
    }

    fn count_read(&self) -> u64 {
        self.reads.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn work(&self, request: &Request) -> rusqlite::Result<Page> {
        let segments: Vec<&str> = request.path.split('/').skip(1).collect();
        if let Some(page) = self.of_places(request, &segments).await? {
            return Ok(page);
        }
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["api", "availability-exceptions"]) => self.add_exception(request).await,
            ("POST", ["api", "assessments"]) => self.add_assessment(request, None).await,
            ("GET", ["assessments", "new"]) => {
                let patient = parameter(request, "patient").unwrap_or_default();
                self.add_assessment(request, Some(patient)).await
            }
            ("POST", ["api", "tokens"]) => self.give_token(request).await,
            ("POST", ["api", "enrolments"]) => self.enrol(request).await,
            ("GET", ["api", "enrolments"]) => {
                let patient = parameter(request, "patient").unwrap_or_default();
                Ok(page(200, &json!({"items": self.rows.enrolments(&patient)?})))
            }
            ("POST", ["api", "bookings"]) => self.book(request).await,
            ("GET", ["api", "bookings", id]) => {
                Ok(self.rows.booking(id)?.map_or_else(nothing, |it| page(200, &it)))
            }
            ("DELETE", ["api", "bookings", id]) => {
                Ok(match self.rows.cancel_booking(id, &origin(request, None))? {
                    true => page(200, &json!({"id": id, "status": "CANCELLED"})),
                    false => nothing(),
                })
            }
            ("GET", ["professionals", id]) => {
                tokio::time::sleep(PROFILE_WORK).await;
                Ok(page(200, &json!({"id": id, "name": "Wang Fang", "reads": self.count_read()})))
            }
            ("GET", ["professionals", _, "sessions", "available"]) => {
                tokio::time::sleep(PROFILE_WORK).await;
                Ok(page(200, &json!({"sessions": [], "reads": self.count_read()})))
            }
            ("PUT", ["api", "profiles", id]) => {
                let text = String::from_utf8_lossy(&request.body).into_owned();
                self.rows.put_profile(id, &Origin { detail: text.clone(), ..origin(request, None) })?;
                Ok(page(200, &json!({"id": id, "saved": text})))
            }
            ("GET", ["api", "profiles", id]) => Ok(self
                .rows
                .profile(id)?
                .map_or_else(nothing, |text| page(200, &json!({"id": id, "saved": text})))),
            ("POST", ["api", "notes"]) => {
                let id = self.rows.insert_note(&request.body, &origin(request, None))?;
                Ok(page(201, &json!({ "id": id })))
            }
            _ => Ok(nothing()),
        }
    }

    /// Incident 1: one after the other, 20 ms each, and a row for every call.
    async fn add_exception(&self, request: &Request) -> rusqlite::Result<Page> {
        let fields = match Fields::read(&request.headers, &request.body).await {
            Ok(fields) => fields,
            Err(why) => return Ok(failure(400, &why)),
        };
        let window = Window {
            practitioner: fields.text("practitionerId"),
            date: fields.text("date"),
            start: fields.text("startTime"),
            end: fields.text("endTime"),
        };
        let _turn = self.one_at_a_time.lock().await;
        tokio::time::sleep(EXCEPTION_WORK).await;
        if !fields.flag("confirm")
            && let Some(other) = self.rows.other_window_over(&window)?
        {
            return Ok(failure(
                409,
                &format!("conflicts with exception {other}; send confirm to add it all the same"),
            ));
        }
        let id = self.rows.insert_exception(&window, &origin(request, Some(&fields)))?;
        let created = json!({"id": id, "practitionerId": window.practitioner, "date": window.date,
            "startTime": window.start, "endTime": window.end});
        Ok(page(201, &created))
    }

    /// Incident 5: count, add one, and insert somewhat later. `patient` is given by the page load that creates.
    async fn add_assessment(&self, request: &Request, patient: Option<String>) -> rusqlite::Result<Page> {
        let fields = match &patient {
            Some(_) => Fields::default(),
            None => match Fields::read(&request.headers, &request.body).await {
                Ok(fields) => fields,
                Err(why) => return Ok(failure(400, &why)),
            },
        };
        let patient = patient.unwrap_or_else(|| fields.text("patient"));
        let number = format!("ASM-2025-{:03}", self.rows.count_assessments()? + 1);
        tokio::time::sleep(NUMBERING_GAP).await;
        match self.rows.insert_assessment(&number, &patient, &origin(request, Some(&fields))) {
            Ok(id) => Ok(page(201, &json!({"id": id, "number": number, "patient": patient}))),
            Err(AssessmentError::DuplicateNumber) => Ok(failure(
                500,
                "duplicate key value violates unique constraint \"assessments_number_key\" (SQLSTATE 23505)",
            )),
            Err(AssessmentError::Database(error)) => Err(error),
        }
    }

    /// Incident 4's tokens: counted as in incident 5, and nothing stops two from being the same.
    async fn give_token(&self, request: &Request) -> rusqlite::Result<Page> {
        let fields = match Fields::read(&request.headers, &request.body).await {
            Ok(fields) => fields,
            Err(why) => return Ok(failure(400, &why)),
        };
        let place = ["clinic", "doctor", "date"].map(|name| fields.text(name)).join("/");
        let number = format!("A{:03}", self.rows.count_tokens(&place)? + 1);
        tokio::time::sleep(NUMBERING_GAP).await;
        let id = self.rows.insert_token(&place, &number, &origin(request, Some(&fields)))?;
        Ok(page(201, &json!({"id": id, "tokenNumber": number})))
    }

    /// Once for each patient; the second time it says that it is done already.
    async fn enrol(&self, request: &Request) -> rusqlite::Result<Page> {
        let fields = match Fields::read(&request.headers, &request.body).await {
            Ok(fields) => fields,
            Err(why) => return Ok(failure(400, &why)),
        };
        let patient = fields.text("patient");
        Ok(match self.rows.insert_enrolment(&patient, &origin(request, Some(&fields)))? {
            Some(id) => page(201, &json!({"id": id, "patient": patient})),
            None => failure(409, "this patient is enrolled already"),
        })
    }

    async fn book(&self, request: &Request) -> rusqlite::Result<Page> {
        let fields = match Fields::read(&request.headers, &request.body).await {
            Ok(fields) => fields,
            Err(why) => return Ok(failure(400, &why)),
        };
        let id = self.rows.insert_booking(&origin(request, Some(&fields)))?;
        let mut created = page(201, &json!({"id": id, "status": "BOOKED"}));
        if let Ok(location) = format!("/api/bookings/{id}").parse() {
            created.headers.insert("location", location);
        }
        Ok(created)
    }
}

/// A parameter of the query.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(request.query.as_bytes());
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// For whom `request` writes.
pub(super) fn origin(request: &Request, fields: Option<&Fields>) -> Origin {
    let named =
        request.headers.get("x-demo-operation").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let field = fields.map(|fields| fields.text("operation")).filter(|text| !text.is_empty());
    let detail = match fields {
        Some(fields) if !fields.0.is_empty() => serde_json::Value::Object(fields.0.clone()).to_string(),
        _ => request.query.clone(),
    };
    Origin { operation: field.or(named), detail }
}

pub(super) fn nothing() -> Page {
    failure(404, "there is no such thing")
}

pub(super) fn failure(status: u16, error: &str) -> Page {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    page(status.as_u16(), &json!({ "error": error }))
}
