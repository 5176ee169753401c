//! `oncegate slots`: who holds what, whether something is free, what the backend had given away before the gateway came, and
//! giving back what the gateway cannot see to be free. Through the admin API.

mod rows;

use super::claims::connect;
use super::client::{self, Client, Failure};
use crate::admin::{BODY_BYTES_MAX, HoldsPage, Imported, ROWS_MAX, Release, SlotView};
use crate::cli::claims::TOKEN_VARIABLE;
use crate::cli::claims::table::{length, now, plain};
use crate::domain::time::Millis;
use clap::{ArgGroup, Subcommand};
use http::Method;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Bookings of a larger file that are sent in one request.
const BATCH: usize = 1_000;

/// Arguments of `slots`.
#[derive(Debug, clap::Args)]
pub struct SlotsArgs {
    #[command(subcommand)]
    action: Action,
    /// The configuration that names the admin address and its token
    #[arg(long, global = true, value_name = "PATH", default_value = "config.toml")]
    config: PathBuf,
    /// The admin address, instead of the configuration's: http://HOST:PORT
    #[arg(long, global = true, value_name = "URL")]
    admin: Option<String>,
    /// The admin token; better in the variable ONCEGATE_ADMIN_TOKEN, because arguments are seen in process lists
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print what the API answers, as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List holds, in the order of their slots
    List {
        /// Only slots of this name
        #[arg(long, value_name = "NAME")]
        slot: Option<String>,
        /// Only the slot with this id: 32 hexadecimal digits, as the log's `slot_id`
        #[arg(long, value_name = "ID")]
        slot_id: Option<String>,
        /// Only this state: reserved, held, unsettled or released
        #[arg(long, value_name = "STATE", value_parser = ["reserved", "held", "unsettled", "released"])]
        state: Option<String>,
        /// Only holds after this one: the next page
        #[arg(long, value_name = "SLOT/HOLD")]
        after: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Ask whether a slot is free
    Ask {
        /// The slot's name
        #[arg(long, value_name = "NAME")]
        slot: String,
        /// The values that name it, as FIELD=VALUE
        #[arg(required = true, value_name = "FIELD=VALUE")]
        values: Vec<String>,
    },
    /// Tell the gateway what the backend has given away already
    Import {
        /// The slot's name
        #[arg(long, value_name = "NAME")]
        slot: String,
        /// Which field has the end of the hold
        #[arg(long, value_name = "FIELD")]
        until: Option<String>,
        /// Bookings: JSON objects, one a line, or CSV with a heading (a name that ends in .csv); - for JSON on standard input
        file: PathBuf,
    },
    /// Give back what a booking holds, or one hold
    Release(ReleaseArgs),
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["booking", "hold"])))]
struct ReleaseArgs {
    /// The slot's name
    #[arg(long, value_name = "NAME", required_unless_present = "hold")]
    slot: Option<String>,
    /// The booking's id, as the backend calls it
    #[arg(long, value_name = "ID", requires = "slot")]
    booking: Option<String>,
    /// The hold, as a list shows it
    #[arg(long, value_name = "SLOT/HOLD", conflicts_with = "slot")]
    hold: Option<String>,
}

/// How an answer of the API is read by people.
type Reading = fn(&[u8]) -> Result<String, Failure>;

/// Exits with 1 where it failed or a row could not be imported, with 2 where the arguments or the configuration are wrong.
pub fn run(args: SlotsArgs) -> ExitCode {
    match carry_out(args, std::env::var(TOKEN_VARIABLE).ok()) {
        Ok((text, code)) => super::print(&text, code),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn carry_out(args: SlotsArgs, variable: Option<String>) -> Result<(String, ExitCode), Failure> {
    let SlotsArgs { action, config, admin, token, json } = args;
    let client = connect(&config, admin, token.or(variable.filter(|token| !token.is_empty())))?;
    let (answer, text): (bytes::Bytes, Reading) = match action {
        Action::List { slot, slot_id, state, after, limit } => {
            let mut query = form_urlencoded::Serializer::new(format!("limit={limit}"));
            for (name, value) in [("slot", slot), ("slot_id", slot_id), ("state", state), ("after", after)] {
                if let Some(value) = value {
                    query.append_pair(name, &value);
                }
            }
            (client.call(Method::GET, &format!("/api/slots?{}", query.finish()), None)?, listed)
        }
        Action::Ask { slot, values } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("slot", &slot);
            for pair in &values {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| Failure::usage(format!("{pair:?} names no value: write FIELD=VALUE")))?;
                query.append_pair(name, value);
            }
            (client.call(Method::GET, &format!("/api/slots/ask?{}", query.finish()), None)?, told)
        }
        Action::Import { slot, until, file } => return import(&client, &slot, until.as_deref(), &file, json),
        Action::Release(ReleaseArgs { slot, booking, hold }) => {
            let release = match (slot, booking, hold) {
                (Some(slot), Some(booking), _) => Release::Booking { slot, booking },
                (_, _, Some(hold)) => Release::Hold { hold },
                _ => return Err(Failure::usage("say what: --slot NAME --booking ID, or --hold SLOT/HOLD")),
            };
            let body = serde_json::to_vec(&release).map_err(Failure::usage)?;
            (client.call(Method::POST, "/api/slots/release", Some(body))?, released)
        }
    };
    let text =
        if json { format!("{}\n", client::read::<serde_json::Value>(&answer)?) } else { text(&answer)? };
    Ok((text, ExitCode::SUCCESS))
}

/// Sends the rows in batches and adds up what became of them. Lines are those of the file.
fn import(
    client: &Client,
    slot: &str,
    until: Option<&str>,
    file: &std::path::Path,
    json: bool,
) -> Result<(String, ExitCode), Failure> {
    let rows = rows::read(file).map_err(Failure::usage)?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("slot", slot);
    if let Some(until) = until {
        query.append_pair("until", until);
    }
    // What fits is sent as one: only so are bookings without an id told apart.
    let bytes: usize = rows.iter().map(|(_, row)| row.len() + 1).sum();
    let is_one = rows.len() <= ROWS_MAX && bytes <= BODY_BYTES_MAX;
    if !is_one {
        query.append_pair("part", "true");
    }
    let path = format!("/api/slots/import?{}", query.finish());
    let mut all = Imported::default();
    for some in rows::parts(&rows, if is_one { ROWS_MAX } else { BATCH }).map_err(Failure::usage)? {
        let text = some.iter().map(|(_, row)| row.as_str()).collect::<Vec<_>>().join("\n");
        let done: Imported = client::read(&client.call(Method::POST, &path, Some(text.into_bytes()))?)?;
        let line = |at: usize| some.get(at.saturating_sub(1)).map_or(at, |(line, _)| *line);
        all.added += done.added;
        all.known += done.known;
        all.ended += done.ended;
        all.wrong_count += done.wrong_count;
        all.over.extend(done.over.into_iter().map(line));
        all.wrong.extend(done.wrong.into_iter().map(|(at, why)| (line(at), why)));
    }
    let code = if all.wrong_count > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if json {
        return Ok((format!("{}\n", serde_json::to_string(&all).map_err(Failure::usage)?), code));
    }
    let mut text = format!(
        "{} adopted, {} known already, {} ended already, {} not read\n",
        all.added + all.over.len(),
        all.known,
        all.ended,
        all.wrong_count
    );
    for line in &all.over {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "line {line}: the slot has no place left: the backend gave it away too often");
    }
    for (line, why) in &all.wrong {
        let _ = writeln!(text, "line {line}: {}", plain(why));
    }
    Ok((text, code))
}

fn listed(answer: &[u8]) -> Result<String, Failure> {
    let page: HoldsPage = client::read(answer)?;
    if page.holds.is_empty() {
        return Ok("no holds\n".into());
    }
    let head = ["SLOT", "KEY", "STATE", "BOOKING", "SINCE", "LEFT", "REQUEST ID", "HOLD"].map(String::from);
    let rows = page.holds.iter().map(|hold| {
        [
            plain(&hold.slot),
            plain(&hold.key),
            hold.state.word().to_owned(),
            hold.booking.as_deref().map(plain).unwrap_or_default(),
            ago(hold.since),
            hold.until.map(left).unwrap_or_default(),
            plain(&hold.request_id),
            format!("{}/{}", plain(&hold.slot_id), plain(&hold.hold)),
        ]
    });
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(next) = &page.next {
        let _ = writeln!(text, "there may be more: --after {}", plain(next));
    }
    Ok(text)
}

fn told(answer: &[u8]) -> Result<String, Failure> {
    let slot: SlotView = client::read(answer)?;
    let what = format!("{} {}", plain(&slot.slot), plain(&slot.key));
    Ok(match (slot.free, slot.state, slot.since) {
        (true, ..) => format!("{what}: free\n"),
        (false, state, since) => {
            let state = state.map_or("taken", |state| state.word());
            let since = since.map(ago).unwrap_or_default();
            let rest = slot.until.map(|until| format!(", free in {}", left(until))).unwrap_or_default();
            format!("{what}: {state} for {since}{rest}\n")
        }
    })
}

fn released(answer: &[u8]) -> Result<String, Failure> {
    let value: serde_json::Value = client::read(answer)?;
    Ok(format!("{} given back\n", value["released"]))
}

/// How long ago something was.
fn ago(since: Millis) -> String {
    length(Duration::from_millis(now().0.saturating_sub(since.0)))
}

/// How long it is until then.
fn left(until: Millis) -> String {
    length(Duration::from_millis(until.0.saturating_sub(now().0)))
}
