//! The hospital's tokens (incident 4) and the class series (incident 2): whoever checks here checks first and inserts later,
//! and the generator does not check at all.

use super::body::Fields;
use super::pages::{Pages, Request, failure, nothing, origin};
use super::rows::{Origin, Rows};
use super::{Page, page};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};
use std::time::Duration;

/// The gap between looking whether a slot is free and inserting: the race of incident 4.
const CHECKING_GAP: Duration = Duration::from_millis(25);
/// Sessions that one call of the generator makes.
const EXTENDED: i64 = 4;

/// What a booking is for.
struct Place {
    clinic: String,
    doctor: String,
    date: String,
    slot: String,
}

// === impl Pages ===

impl Pages {
    /// The pages of incidents 2 and 4; `None` where the request is for none of them.
    pub(super) async fn of_places(
        &self,
        request: &Request,
        segments: &[&str],
    ) -> rusqlite::Result<Option<Page>> {
        let rows = &self.rows;
        Ok(Some(match (request.method.as_str(), segments) {
            ("POST", ["api", "walk-ins"]) => self.take_place(request).await?,
            ("POST", ["api", "bookings"]) if names_a_place(request).await => self.take_place(request).await?,
            ("PATCH" | "PUT", ["api", "bookings", id]) => {
                let fields = fields(request).await;
                changed(rows.change_booking(id, &fields, &origin(request, Some(&fields)))?, id, &fields)
            }
            ("POST", ["api", kind @ ("class-series" | "class-sessions")]) => {
                let fields = fields(request).await;
                let id = rows.insert_class(kind, &origin(request, Some(&fields)))?;
                page(201, &json!({"id": id, "status": "ACTIVE"}))
            }
            ("POST", ["api", "class-series", id, "extend"]) => {
                let made = rows.extend_series(id, &origin(request, None))?;
                page(200, &json!({"series": id, "sessions": made}))
            }
            ("PATCH", ["api", kind @ ("class-series" | "class-sessions"), id]) => {
                let fields = fields(request).await;
                let done =
                    rows.change_class(kind, id, &fields.text("status"), &origin(request, Some(&fields)))?;
                changed(done, id, &fields)
            }
            ("DELETE", ["api", kind @ ("class-series" | "class-sessions"), id]) => {
                let done = rows.change_class(kind, id, "CANCELLED", &origin(request, None))?;
                changed(done, id, &Fields::default())
            }
            _ => return Ok(None),
        }))
    }

    /// Incident 4: is it free? Then insert, somewhat later, under the number that was counted before.
    async fn take_place(&self, request: &Request) -> rusqlite::Result<Page> {
        let fields = fields(request).await;
        let place = Place {
            clinic: fields.text("clinicId"),
            doctor: fields.text("doctor"),
            date: fields.text("date"),
            slot: fields.text("slotIndex"),
        };
        if let Some(other) = self.rows.booking_of(&place)? {
            return Ok(failure(409, &format!("the slot is taken by booking {other}")));
        }
        let token = format!("A{:03}", self.rows.count_bookings(&place)? + 1);
        tokio::time::sleep(CHECKING_GAP).await;
        let id = self.rows.insert_place(&place, &token, &origin(request, Some(&fields)))?;
        let mut made = page(201, &json!({"id": id, "status": "BOOKED", "tokenNumber": token}));
        if let Ok(location) = format!("/api/bookings/{id}").parse() {
            made.headers.insert("location", location);
        }
        Ok(made)
    }
}

async fn fields(request: &Request) -> Fields {
    Fields::read(&request.headers, &request.body).await.unwrap_or_default()
}

async fn names_a_place(request: &Request) -> bool {
    let fields = fields(request).await;
    ["clinicId", "doctor", "date", "slotIndex"].iter().all(|name| !fields.text(name).is_empty())
}

fn changed(done: bool, id: &str, fields: &Fields) -> Page {
    match done {
        true => page(200, &json!({"id": id, "changed": Value::Object(fields.0.clone())})),
        false => nothing(),
    }
}

// === impl Rows ===

impl Rows {
    fn booking_of(&self, place: &Place) -> rusqlite::Result<Option<i64>> {
        let query = "SELECT id FROM bookings WHERE clinic = ?1 AND doctor = ?2 AND date = ?3 AND slot = ?4
                     AND status = 'BOOKED' LIMIT 1";
        let values = params![place.clinic, place.doctor, place.date, place.slot];
        self.lock().query_row(query, values, |row| row.get(0)).optional()
    }

    fn count_bookings(&self, place: &Place) -> rusqlite::Result<i64> {
        let query = "SELECT count(*) FROM bookings WHERE clinic = ?1 AND doctor = ?2 AND date = ?3";
        self.lock().query_row(query, params![place.clinic, place.doctor, place.date], |row| row.get(0))
    }

    fn insert_place(&self, place: &Place, token: &str, origin: &Origin) -> rusqlite::Result<i64> {
        self.effect("booking", origin, |transaction| {
            transaction.execute(
                "INSERT INTO bookings (body, status, clinic, doctor, date, slot, token)
                 VALUES (?1, 'BOOKED', ?2, ?3, ?4, ?5, ?6)",
                params![origin.detail, place.clinic, place.doctor, place.date, place.slot, token],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Changes what a PATCH names; false where there is no such booking.
    fn change_booking(&self, id: &str, fields: &Fields, origin: &Origin) -> rusqlite::Result<bool> {
        let value = |name: &str| Some(fields.text(name)).filter(|text| !text.is_empty());
        self.change("change", id, origin, |transaction| {
            transaction.execute(
                "UPDATE bookings SET clinic = coalesce(?2, clinic), doctor = coalesce(?3, doctor),
                 date = coalesce(?4, date), slot = coalesce(?5, slot), status = coalesce(?6, status) WHERE id = ?1",
                params![id, value("clinicId"), value("doctor"), value("date"), value("slotIndex"), value("status")],
            )
        })
    }

    fn insert_class(&self, kind: &str, origin: &Origin) -> rusqlite::Result<i64> {
        self.effect(kind, origin, |transaction| {
            transaction.execute(
                "INSERT INTO classes (kind, body, status) VALUES (?1, ?2, 'ACTIVE')",
                [kind, &origin.detail],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Incident 2's generator: the coming sessions of a series, whether they are there or not.
    fn extend_series(&self, id: &str, origin: &Origin) -> rusqlite::Result<Vec<i64>> {
        let sessions = 1..=EXTENDED;
        sessions
            .map(|number| {
                let detail = format!("session {number} of series {id}");
                self.insert_class("class-sessions", &Origin { detail, ..origin.clone() })
            })
            .collect()
    }

    fn change_class(&self, kind: &str, id: &str, status: &str, origin: &Origin) -> rusqlite::Result<bool> {
        self.change("change", id, origin, |transaction| {
            let query =
                "UPDATE classes SET status = ?3 WHERE kind = ?1 AND id = ?2 AND status <> 'CANCELLED'";
            transaction.execute(query, [kind, id, status])
        })
    }
}
