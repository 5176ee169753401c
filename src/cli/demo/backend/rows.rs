//! The backend's SQLite file. Every row that is created or changed leaves an entry in `effects`, written in the same
//! transaction: an effect is a row that really came to be, in the order in which it did.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The open database.
pub struct Rows {
    connection: Mutex<Connection>,
}

/// For whom a row is written: how an effect is told apart from others.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The `operation` field of the body, or the `X-Demo-Operation` header.
    pub operation: Option<String>,
    /// The body as it was understood.
    pub detail: String,
}

/// An exact window of a practitioner's day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whose.
    pub practitioner: String,
    /// `YYYY-MM-DD`.
    pub date: String,
    /// `HH:MM`.
    pub start: String,
    /// `HH:MM`.
    pub end: String,
}

/// Why an assessment was not inserted.
#[derive(Debug)]
pub enum AssessmentError {
    /// Another request took the number first.
    DuplicateNumber,
    /// The database failed.
    Database(rusqlite::Error),
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS availability_exceptions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, practitioner TEXT, date TEXT, start_time TEXT, end_time TEXT);
    CREATE TABLE IF NOT EXISTS assessments (
        id INTEGER PRIMARY KEY AUTOINCREMENT, number TEXT NOT NULL UNIQUE, patient TEXT);
    CREATE TABLE IF NOT EXISTS bookings (
        id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT, status TEXT NOT NULL,
        clinic TEXT, doctor TEXT, date TEXT, slot TEXT, token TEXT);
    CREATE TABLE IF NOT EXISTS classes (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body TEXT, status TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS tokens (id INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT, number TEXT);
    CREATE TABLE IF NOT EXISTS enrolments (
        id INTEGER PRIMARY KEY AUTOINCREMENT, patient TEXT NOT NULL UNIQUE, body TEXT);
    CREATE TABLE IF NOT EXISTS profiles (id TEXT PRIMARY KEY, body TEXT);
    CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB);
    CREATE TABLE IF NOT EXISTS effects (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, row TEXT NOT NULL, operation TEXT, detail TEXT);
    INSERT OR IGNORE INTO sqlite_sequence (name, seq) SELECT 'availability_exceptions', 821
        WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'availability_exceptions');
";

// === impl Rows ===

impl Rows {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// The database's.
    pub fn open(path: &Path) -> rusqlite::Result<Rows> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Rows { connection: Mutex::new(connection) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `write` and notes its effect in one transaction; `write` returns the row's id.
    pub(super) fn effect<T: ToString>(
        &self,
        kind: &str,
        origin: &Origin,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let row = write(&transaction)?;
        transaction.execute(
            "INSERT INTO effects (kind, row, operation, detail) VALUES (?1, ?2, ?3, ?4)",
            params![kind, row.to_string(), origin.operation, origin.detail],
        )?;
        transaction.commit()?;
        Ok(row)
    }

    /// A window of the same practitioner and day that overlaps `window` without being the same.
    pub fn other_window_over(&self, window: &Window) -> rusqlite::Result<Option<i64>> {
        self.lock()
            .query_row(
                "SELECT id FROM availability_exceptions WHERE practitioner = ?1 AND date = ?2
                 AND start_time < ?4 AND end_time > ?3 AND NOT (start_time = ?3 AND end_time = ?4) LIMIT 1",
                params![window.practitioner, window.date, window.start, window.end],
                |row| row.get(0),
            )
            .optional()
    }

    /// Adds an availability exception, whatever there is already.
    pub fn insert_exception(&self, window: &Window, origin: &Origin) -> rusqlite::Result<i64> {
        self.effect("availability-exception", origin, |transaction| {
            transaction.execute(
                "INSERT INTO availability_exceptions (practitioner, date, start_time, end_time) VALUES (?1, ?2, ?3, ?4)",
                params![window.practitioner, window.date, window.start, window.end],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// How many assessments there are.
    pub fn count_assessments(&self) -> rusqlite::Result<i64> {
        self.lock().query_row("SELECT count(*) FROM assessments", [], |row| row.get(0))
    }

    /// Adds an assessment under a number that must be new.
    pub fn insert_assessment(
        &self,
        number: &str,
        patient: &str,
        origin: &Origin,
    ) -> Result<i64, AssessmentError> {
        let inserted = self.effect("assessment", origin, |transaction| {
            transaction
                .execute("INSERT INTO assessments (number, patient) VALUES (?1, ?2)", [number, patient])?;
            Ok(transaction.last_insert_rowid())
        });
        inserted.map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => AssessmentError::DuplicateNumber,
            _ => AssessmentError::Database(error),
        })
    }

    /// How many tokens there are at a place (a clinic, a doctor and a day).
    pub fn count_tokens(&self, place: &str) -> rusqlite::Result<i64> {
        self.lock().query_row("SELECT count(*) FROM tokens WHERE place = ?1", [place], |row| row.get(0))
    }

    /// Adds a token, whether or not somebody has it.
    pub fn insert_token(&self, place: &str, number: &str, origin: &Origin) -> rusqlite::Result<i64> {
        self.effect("token", origin, |transaction| {
            transaction.execute("INSERT INTO tokens (place, number) VALUES (?1, ?2)", [place, number])?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Enrols a patient, once; `None` where that was done before.
    pub fn insert_enrolment(&self, patient: &str, origin: &Origin) -> rusqlite::Result<Option<i64>> {
        let inserted = self.effect("enrolment", origin, |transaction| {
            transaction.execute(
                "INSERT INTO enrolments (patient, body) VALUES (?1, ?2)",
                [patient, &origin.detail],
            )?;
            Ok(transaction.last_insert_rowid())
        });
        match inserted {
            Ok(id) => Ok(Some(id)),
            Err(error) => match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The enrolments of a patient: one, or none.
    pub fn enrolments(&self, patient: &str) -> rusqlite::Result<Vec<Value>> {
        let connection = self.lock();
        let mut query = connection.prepare("SELECT id, patient FROM enrolments WHERE patient = ?1")?;
        let rows = query.query_map([patient], |row| {
            Ok(json!({"id": row.get::<_, i64>(0)?, "patient": row.get::<_, String>(1)?}))
        })?;
        rows.collect()
    }

    /// Adds a booking, whatever there is already.
    pub fn insert_booking(&self, origin: &Origin) -> rusqlite::Result<i64> {
        self.effect("booking", origin, |transaction| {
            transaction
                .execute("INSERT INTO bookings (body, status) VALUES (?1, 'BOOKED')", [&origin.detail])?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Cancels a booking; false where there is none to cancel.
    pub fn cancel_booking(&self, id: &str, origin: &Origin) -> rusqlite::Result<bool> {
        self.change("cancellation", id, origin, |transaction| {
            let query = "UPDATE bookings SET status = 'CANCELLED' WHERE id = ?1 AND status = 'BOOKED'";
            transaction.execute(query, [id])
        })
    }

    /// Changes the row `id`, which is an effect where `write` says that it changed one; false otherwise.
    pub(super) fn change(
        &self,
        kind: &str,
        id: &str,
        origin: &Origin,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize>,
    ) -> rusqlite::Result<bool> {
        let changed = self.effect(kind, origin, |transaction| match write(transaction)? {
            0 => Err(rusqlite::Error::QueryReturnedNoRows),
            _ => Ok(id.to_owned()),
        });
        match changed {
            Ok(_) => Ok(true),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A booking as JSON.
    pub fn booking(&self, id: &str) -> rusqlite::Result<Option<Value>> {
        let query = "SELECT id, status FROM bookings WHERE id = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(json!({"id": row.get::<_, i64>(0)?, "status": row.get::<_, String>(1)?}))
        };
        self.lock().query_row(query, [id], read).optional()
    }

    /// Replaces a profile.
    pub fn put_profile(&self, id: &str, origin: &Origin) -> rusqlite::Result<()> {
        self.effect("profile", origin, |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO profiles (id, body) VALUES (?1, ?2)",
                [id, &origin.detail],
            )?;
            Ok(id.to_owned())
        })?;
        Ok(())
    }

    /// A profile's text.
    pub fn profile(&self, id: &str) -> rusqlite::Result<Option<String>> {
        self.lock().query_row("SELECT body FROM profiles WHERE id = ?1", [id], |row| row.get(0)).optional()
    }

    /// Adds bytes that mean nothing to the backend.
    pub fn insert_note(&self, body: &[u8], origin: &Origin) -> rusqlite::Result<i64> {
        self.effect("note", origin, |transaction| {
            transaction.execute("INSERT INTO notes (body) VALUES (?1)", [body])?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Every effect, in order.
    pub fn effects(&self) -> rusqlite::Result<Vec<Value>> {
        let connection = self.lock();
        let mut query =
            connection.prepare("SELECT seq, kind, row, operation, detail FROM effects ORDER BY seq")?;
        let rows = query.query_map([], |row| {
            let (seq, kind, id): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (operation, detail): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            Ok(json!({"seq": seq, "kind": kind, "id": id, "operation": operation, "detail": detail}))
        })?;
        rows.collect()
    }
}
