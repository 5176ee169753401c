//! The scripts, one file each, and the one way to say that a script shall run. What the store does is in them; how a
//! call gets there is in `wire`.

use super::callers::Asked;
use super::command::Command;
use super::part::{CLOCK, PHASES, Part, Parts};
use super::source;
use super::usual::{self, Relying, Usual};
use crate::domain::lane::LaneId;
use crate::domain::ledger::RecordId;
use redis::{Cmd, RedisResult, ToRedisArgs, Value};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

macro_rules! scripts {
    ($($name:ident = $file:literal,)*) => {
        /// One of the scripts.
        #[allow(missing_docs, reason = "each is described at the head of its file")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Script { $($name,)* }

        /// All scripts, in the order of [`Script`].
        const SOURCES: &[(&str, &str)] = &[$(($file, include_str!(concat!("scripts/", $file, ".lua"))),)*];
    };
}

// A new script is a file in `scripts/` and a line here.
scripts! {
    Abandon = "abandon",
    Alias = "alias",
    Aliases = "aliases",
    Answer = "answer",
    Claim = "claim",
    Complete = "complete",
    Dead = "dead",
    Doubt = "doubt",
    End = "end",
    Ended = "ended",
    Enter = "enter",
    Hold = "hold",
    Ids = "ids",
    LaneGiveUp = "lane_give_up",
    LaneJoin = "lane_join",
    LaneLeave = "lane_leave",
    LaneList = "lane_list",
    LaneLook = "lane_look",
    LaneRenew = "lane_renew",
    LaneRestore = "lane_restore",
    LaneSend = "lane_send",
    Limits = "limits",
    Live = "live",
    Look = "look",
    MarkSent = "mark_sent",
    Renew = "renew",
    Restore = "restore",
    Settle = "settle",
    Sighted = "sighted",
    Show = "show",
    SlotAdopt = "slot_adopt",
    SlotCount = "slot_count",
    SlotFreed = "slot_freed",
    SlotGiveBack = "slot_give_back",
    SlotList = "slot_list",
    SlotLook = "slot_look",
    SlotOf = "slot_of",
    SlotRelease = "slot_release",
    SlotRestore = "slot_restore",
    SlotShow = "slot_show",
    SlotVacate = "slot_vacate",
    Sweep = "sweep",
    Tell = "tell",
    Untold = "untold",
    Usual = "usual",
}

/// A script's text, and what asks a server for it by its digest.
struct Loaded {
    text: String,
    /// What asks for it begins with.
    asks: Command,
}

static LOADED: LazyLock<Vec<Loaded>> = LazyLock::new(|| {
    let load = |(name, source): &(&str, &str)| {
        let text = source::whole(name, source);
        let mut asks = Command::with_capacity(80);
        asks.arg("EVALSHA");
        asks.arg(redis::Script::new(&text).get_hash());
        Loaded { text, asks }
    };
    SOURCES.iter().map(load).collect()
});

/// Which of a worker's connections a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For short commands and short replies.
    Commands,
    /// For what carries a large body, which would hold up the others.
    Bodies,
}

/// One script with its keys and arguments.
pub(super) struct Call {
    /// Which script.
    pub(super) script: Script,
    /// The part whose keys it touches.
    pub(super) part: Part,
    /// How long its caller waits.
    pub(super) deadline: Duration,
    /// Which connection.
    pub(super) lane: Lane,
    /// Whether it may be sent again after a reply was lost.
    pub(super) repeatable: bool,
    /// Whether its caller gives up so early that a timeout says nothing about the connection.
    pub(super) hasty: bool,
    /// Whether a last argument says which agreement of the gateways it relies on.
    pub(super) says_agreement: bool,
    /// `EVALSHA` with everything; nothing where it may go with others.
    command: Command,
    usual: Option<Arc<Usual>>,
}

// === impl Script ===

impl Script {
    /// `SCRIPT LOAD` of its text.
    pub(super) fn load(self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&LOADED[self as usize].text);
        command
    }

    /// What asks for it begins with.
    pub(super) fn asks(self) -> &'static Command {
        &LOADED[self as usize].asks
    }

    /// How many there are.
    pub(super) fn count() -> usize {
        SOURCES.len()
    }

    /// Loads all of them.
    pub(super) fn load_all() -> redis::Pipeline {
        let mut pipeline = redis::pipe();
        for loaded in LOADED.iter() {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(&loaded.text);
        }
        pipeline
    }
}

// === impl Command ===

impl Command {
    /// `EVALSHA` of a script with so many keys, and room for so many bytes.
    fn of(script: Script, keys: usize, bytes: usize) -> Command {
        let mut command = Command::like(script.asks(), bytes);
        command.arg(keys);
        command
    }
}

// === impl Call ===

impl Call {
    /// A call about one record.
    pub(super) fn on(parts: &Parts, script: Script, id: &RecordId, deadline: Duration) -> Call {
        Call::with(parts, script, parts.of(id), &id.0, None, deadline)
    }

    /// A call about a lane, and the record of an attempt in it where there is one to speak of.
    pub(super) fn in_lane(
        parts: &Parts,
        script: Script,
        lane: &LaneId,
        id: Option<&RecordId>,
        deadline: Duration,
    ) -> Call {
        let id = id.map_or(&[][..], |id| &id.0);
        Call::with(parts, script, parts.of_bearing(), id, Some(lane), deadline)
    }

    /// A call about a part as a whole.
    pub(super) fn of(parts: &Parts, script: Script, part: Part, deadline: Duration) -> Call {
        Call::with(parts, script, part, b"", None, deadline)
    }

    fn with(
        parts: &Parts,
        script: Script,
        part: Part,
        id: &[u8],
        lane: Option<&LaneId>,
        deadline: Duration,
    ) -> Call {
        let prefix = parts.prefix(part);
        let phases = if parts.are_several() { &PHASES[..] } else { &[] };
        let mut command = Command::of(script, 3 + phases.len() + lane.map_or(0, |_| 2), 1_024);
        let mut name = |kind: &[u8], id: &[u8]| command.joined(&[prefix, kind, id]);
        name(b"r:", id);
        name(b"a:", id);
        name(CLOCK, b"");
        if let Some(lane) = lane {
            name(b"n:", &lane.0);
            name(b"n", b"");
        }
        phases.iter().for_each(|phase| name(phase, b""));
        command.joined(&[prefix]);
        command.joined(&[parts.channel()]);
        Call::made(script, part, deadline, command)
    }

    /// A call with these `count` keys of a part, and nothing else.
    pub(super) fn bare(
        script: Script,
        part: Part,
        keys: impl Iterator<Item = Vec<u8>>,
        count: usize,
        deadline: Duration,
    ) -> Call {
        let mut command = Command::of(script, count, 128 + 96 * count);
        for key in keys {
            command.arg(key);
        }
        Call::made(script, part, deadline, command)
    }

    /// A claim or a completion that may go with others.
    pub(super) fn usual(parts: &Parts, id: &RecordId, usual: Usual, deadline: Duration) -> Call {
        let call = Call::made(Script::Usual, parts.of(id), deadline, Command::with_capacity(0));
        Call { usual: Some(Arc::new(usual)), ..call.under_agreement() }
    }

    fn made(script: Script, part: Part, deadline: Duration, command: Command) -> Call {
        let (lane, repeatable, hasty, says_agreement) = (Lane::Commands, true, false, false);
        let usual = None;
        Call { script, part, deadline, lane, repeatable, hasty, says_agreement, command, usual }
    }

    /// What is asked for, and what the gateways agreed on where that is said.
    pub(super) fn asked(&self, agreement: Option<Arc<[u8]>>) -> Asked {
        match &self.usual {
            Some(usual) => Asked::Usual(Relying::on(usual, agreement)),
            None => Asked::Alone(self.command.bytes(agreement.as_deref())),
        }
    }

    /// The same for the library, which sends it alone.
    pub(super) fn cmd(&self, agreement: Option<Arc<[u8]>>) -> Cmd {
        match &self.usual {
            Some(usual) => usual::together(&[Relying::on(usual, agreement)]).cmd(None),
            None => self.command.cmd(agreement.as_deref()),
        }
    }

    /// What the reply says, where it was sent alone.
    pub(super) fn told(&self, reply: Value) -> RedisResult<Value> {
        Ok(match (&self.usual, reply.extract_error()?) {
            (Some(_), Value::Array(mut all)) => all.pop().unwrap_or(Value::Nil),
            (_, told) => told,
        })
    }

    /// With one more argument.
    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Call {
        self.command.arg(arg);
        self
    }

    /// With one more argument, in pieces.
    pub(super) fn joined(mut self, pieces: &[&[u8]]) -> Call {
        self.command.joined(pieces);
        self
    }

    /// With a duration in milliseconds.
    pub(super) fn millis(self, duration: Duration) -> Call {
        self.arg(millis(duration))
    }

    /// On the connection for bodies.
    pub(super) fn on_bodies(mut self, large: bool) -> Call {
        if large {
            self.lane = Lane::Bodies;
        }
        self
    }

    /// A timeout says nothing about its connection.
    pub(super) fn hasty(mut self, hasty: bool) -> Call {
        self.hasty = hasty;
        self
    }

    /// Sent once at most: late, it would hit another attempt.
    pub(super) fn once(mut self) -> Call {
        self.repeatable = false;
        self
    }

    /// To be carried out only where the gateways agreed that nothing is missing, this one among them.
    pub(super) fn under_agreement(mut self) -> Call {
        self.says_agreement = true;
        self
    }
}

/// The longest duration in milliseconds that a script can add to an instant without losing a digit (ten thousand years).
pub(super) const FOREVER: u64 = 10_000 * 366 * 86_400_000;

/// A duration in milliseconds, as a script can add it to an instant.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(FOREVER)
}
