//! `oncegate claims`: what the gateway remembers, and an operator's word on outcomes in doubt, through the admin API.

pub(super) mod table;

use super::client::{self, Client, Failure};
use crate::admin::{ClaimsPage, Resolution, Unnamed, Values};
use crate::config;
use crate::store::RecordView;
use base64::Engine;
use clap::{ArgGroup, Subcommand};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a body that is given to `resolve`: what the admin API takes, before base64.
const BODY_MAX: u64 = 2 << 20;
/// Where the token may be, so that it is in no process list.
pub(super) const TOKEN_VARIABLE: &str = "ONCEGATE_ADMIN_TOKEN";
/// Hex digits of a whole id.
const ID_DIGITS: usize = 64;
/// Hex digits that name a record at least; `list` shows 12.
const PREFIX_MIN: usize = 8;

/// Arguments of `claims`.
#[derive(Debug, clap::Args)]
pub struct ClaimsArgs {
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
    /// List records, in the order of their ids
    List {
        /// Only this phase: queued, sent, done or in-doubt
        #[arg(long, value_name = "PHASE", value_parser = ["queued", "sent", "done", "in-doubt"])]
        phase: Option<String>,
        /// Only records after this one: the next page
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Show one record
    Show {
        /// The record's id, or its first digits (eight at least)
        id: String,
    },
    /// Settle an outcome in doubt, after a look into the backend
    Resolve(ResolveArgs),
    /// Forget a record that is not in flight, whatever it says: the next copy executes again
    Delete {
        /// The record's id, or its first digits (eight at least)
        id: String,
    },
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("verdict").required(true).args(["executed", "not_executed"])))]
struct ResolveArgs {
    /// The record's id, or its first digits (eight at least)
    id: String,
    /// The write was executed: copies get the answer that --status, --header and --body give
    #[arg(long, requires = "status")]
    executed: bool,
    /// The write was not executed: the next copy executes
    #[arg(long)]
    not_executed: bool,
    /// The answer's status, 200 to 599
    #[arg(long, value_name = "STATUS", conflicts_with = "not_executed")]
    status: Option<u16>,
    /// A header of the answer, "Name: value"; may be repeated
    #[arg(long = "header", value_name = "HEADER", conflicts_with = "not_executed")]
    headers: Vec<String>,
    /// The answer's body: text, @FILE, or @- for standard input
    #[arg(long, value_name = "BODY", conflicts_with = "not_executed")]
    body: Option<String>,
    /// Of which attempt this is known: the record's request_id, as `show` says it. A later one is not settled by it
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// How long copies get this answer, in seconds (a day)
    #[arg(long, value_name = "SECONDS", conflicts_with = "not_executed")]
    keep: Option<u64>,
}

/// Lists, shows and settles records. Exits with 1 where that failed, with 2 where the arguments or the configuration
/// are wrong.
pub fn run(args: ClaimsArgs) -> ExitCode {
    match carry_out(args, std::env::var(TOKEN_VARIABLE).ok()) {
        Ok(text) => super::print(&text, ExitCode::SUCCESS),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// `variable`: the token in the environment.
fn carry_out(args: ClaimsArgs, variable: Option<String>) -> Result<String, Failure> {
    let ClaimsArgs { action, config, admin, token, json } = args;
    let client = connect(&config, admin, token.or(variable.filter(|token| !token.is_empty())))?;
    let answer = match action {
        Action::List { phase, after, limit } => {
            let phase = phase.map(|phase| format!("&phase={phase}")).unwrap_or_default();
            let after = after.map(|after| whole_id(&client, &after)).transpose()?;
            let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
            let answer =
                client.call(http::Method::GET, &format!("/api/claims?limit={limit}{phase}{after}"), None)?;
            if !json {
                return Ok(table::list(&client::read::<ClaimsPage>(&answer)?, table::now()));
            }
            answer
        }
        Action::Show { id } => {
            let id = whole_id(&client, &id)?;
            let answer = client.call(http::Method::GET, &format!("/api/claims/{id}"), None)?;
            if !json {
                return Ok(table::show(&client::read::<RecordView>(&answer)?, table::now()));
            }
            answer
        }
        Action::Resolve(resolve) => {
            let resolution = serde_json::to_vec(&resolution(&resolve)?).map_err(Failure::usage)?;
            let id = whole_id(&client, &resolve.id)?;
            let answer =
                client.call(http::Method::POST, &format!("/api/claims/{id}/resolve"), Some(resolution))?;
            if !json {
                let verdict = if resolve.executed { "executed" } else { "not executed" };
                let Left { unsure, unnamed } = client::read(&answer)?;
                let unsure: String = unsure.iter().map(|slot| still_held(&table::plain(slot))).collect();
                let unnamed: String = unnamed.iter().map(held_without_name).collect();
                return Ok(format!("{id} is settled: {verdict}\n{unsure}{unnamed}"));
            }
            answer
        }
        Action::Delete { id } => {
            let id = whole_id(&client, &id)?;
            let answer = client.call(http::Method::DELETE, &format!("/api/claims/{id}"), None)?;
            if !json {
                return Ok(format!("{id} is forgotten: the next copy executes\n"));
            }
            answer
        }
    };
    client::read::<serde_json::Value>(&answer).map(|value| format!("{value}\n"))
}

/// What is left to do after a verdict.
#[derive(serde::Deserialize)]
struct Left {
    #[serde(default)]
    unsure: Vec<String>,
    #[serde(default)]
    unnamed: Vec<Unnamed>,
}

fn held_without_name(unnamed: &Unnamed) -> String {
    format!(
        "the answer does not name the booking that holds its {}, so no cancellation frees it; \
         when it is over: oncegate slots release --hold {}\n",
        table::plain(&unnamed.slot),
        table::plain(&unnamed.hold)
    )
}

fn still_held(slot: &str) -> String {
    format!(
        "its record does not say whether it gave back its {slot}; where it did: oncegate slots release --slot {slot} --booking ID\n"
    )
}

/// The admin address and token: from the arguments, else from the configuration. The configuration's token goes only to
/// the configuration's address.
pub(super) fn connect(
    config: &Path,
    admin: Option<String>,
    token: Option<String>,
) -> Result<Client, Failure> {
    if let Some(url) = admin {
        return Client::new(&url, token);
    }
    let loaded = config::load(config).map_err(|problems| {
        let tally = problems.tally();
        Failure::usage(format!(
            "the admin address is unknown, because {} cannot be used ({tally})\n  \
             see why with oncegate check --config {}\n  \
             pass another file with --config PATH, or the address with --admin http://HOST:PORT",
            config.display(),
            config.display()
        ))
    })?;
    let configured = loaded.config.admin;
    let token = token.or_else(|| configured.token.as_ref().map(|token| token.expose().to_owned()));
    Client::new(&format!("http://{}", reachable(configured.listen)), token)
}

/// An address to connect to, for one to listen on: `0.0.0.0` means every address, so also this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The id that begins with `prefix`, if exactly one record's does. Ids are listed in order, so a page of two that starts
/// at the prefix tells.
fn whole_id(client: &Client, prefix: &str) -> Result<String, Failure> {
    let prefix = prefix.to_ascii_lowercase();
    let is_hex = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || !(PREFIX_MIN..=ID_DIGITS).contains(&prefix.len()) {
        return Err(Failure::usage(format!(
            "{prefix:?} is no record id: that is {ID_DIGITS} hexadecimal digits, or the first {PREFIX_MIN} or more"
        )));
    }
    if prefix.len() == ID_DIGITS {
        return Ok(prefix);
    }
    let after = format!("{prefix:0<ID_DIGITS$}");
    let answer = client.call(http::Method::GET, &format!("/api/claims?limit=2&after={after}"), None)?;
    let page: ClaimsPage = client::read(&answer)?;
    let mut matching = page.claims.into_iter().map(|claim| claim.id).filter(|id| id.starts_with(&prefix));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("several records begin with {prefix}: give more digits")))
        }
        (None, _) => {
            Err(Failure::Refused(format!("no record begins with {prefix}; it may have left by itself")))
        }
    }
}

fn resolution(args: &ResolveArgs) -> Result<Resolution, Failure> {
    let request_id = args.request_id.clone();
    let Some(status) = args.status.filter(|_| args.executed) else {
        return Ok(Resolution::NotExecuted { request_id });
    };
    let mut headers: BTreeMap<String, Values> = BTreeMap::new();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| Failure::usage(format!("{header:?} is no header: write \"Name: value\"")))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        match headers.entry(name).or_insert_with(|| Values::Several(Vec::new())) {
            Values::Several(values) => values.push(value),
            Values::One(_) => {}
        }
    }
    let (body, body_base64) = match args.body.as_deref().map(read_body).transpose()?.map(String::from_utf8) {
        None => (None, None),
        Some(Ok(text)) => (Some(text), None),
        Some(Err(binary)) => {
            (None, Some(base64::engine::general_purpose::STANDARD.encode(binary.as_bytes())))
        }
    };
    Ok(Resolution::Executed { status, headers, body, body_base64, keep_seconds: args.keep, request_id })
}

fn read_body(argument: &str) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = match argument.strip_prefix('@') {
        None => return Ok(argument.as_bytes().to_vec()),
        Some("-") => std::io::stdin().lock().take(BODY_MAX + 1).read_to_end(&mut body),
        Some(path) => {
            std::fs::File::open(path).and_then(|file| file.take(BODY_MAX + 1).read_to_end(&mut body))
        }
    };
    read.map_err(|error| Failure::usage(format!("the body {argument} cannot be read: {error}")))?;
    if body.len() as u64 > BODY_MAX {
        return Err(Failure::usage(format!("the body {argument} is larger than {} MiB", BODY_MAX >> 20)));
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
