//! A real Redis server whose time a test moves, and two gateways' stores on it.

use super::support::*;
use crate::harness::redis::Server;
use oncegate::domain::ledger::Token;
use oncegate::store::{Claimed, Held, Options, Place, Store};

/// A day in the next century, in milliseconds.
const FAR: u64 = 4_102_444_800_000;

/// A real server, whose clock a test moves.
pub struct Bench {
    pub server: Server,
    /// Completes whatever is completed.
    pub store: Store,
    /// Of another gateway, which only claims.
    pub other: Store,
    _states: [tempfile::TempDir; 2],
    /// The store's present instant.
    pub now: u64,
}

// === impl Bench ===

impl Bench {
    pub fn start() -> Bench {
        let mut bench = Bench::on_the_servers_time();
        bench.pass(0);
        bench
    }

    /// Time is the server's own.
    pub fn on_the_servers_time() -> Bench {
        let server = Server::start(&[]);
        let states = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [store, other] = states.each_ref().map(|state| {
            let node = oncegate::store::Address::new("127.0.0.1", server.address.port());
            let place = Place::Shared(shared(oncegate::store::Layout::Single, vec![node], state.path()));
            let options = Options { secret: Some(vec![7; 32]), ..Limits::default().options(place) };
            Store::open(options).expect("an empty server opens")
        });
        Bench { server, store, other, _states: states, now: FAR }
    }

    /// Time passes.
    pub fn pass(&mut self, millis: u64) {
        self.now += millis;
        let clock = self.server.cli(&["get", "{oncegate}clock"]);
        let life = clock.trim().split(' ').nth(1).expect("the gateways have agreed on this life").to_owned();
        self.server.cli(&["set", "{oncegate}clock", &format!("{} {life}", self.now)]);
    }

    /// Time passes, and the gateway hears of it, as it does every second.
    pub async fn passed(&mut self, millis: u64) {
        self.pass(millis);
        let (n, token) = (200, u128::MAX);
        let heard = self.store.claim(claim(&self.store, n, token)).await;
        assert!(matches!(heard, Ok(Claimed::Granted)), "{heard:?}");
        assert_eq!(self.store.abandon(id(n), Token(token), None).await, Ok(Held::Yes));
    }

    /// Forgets all records and holds, for the next case.
    pub fn clear(&self) {
        let script = "local kept = {clock = 1, secret = 1, m = 1, b = 1} \
                      for _, key in ipairs(redis.call('keys', '{oncegate}*')) do \
                      if not kept[string.sub(key, 11)] then redis.call('del', key) end end";
        self.server.cli(&["eval", script, "0"]);
    }

    /// Each record has its answer behind it, and is in the sets that say where it is to be found, by its own end, and in that of
    /// no other phase; they live as long as it does.
    pub fn sets_are_whole(&self) {
        let script = "local wrong = {} \
            for _, key in ipairs(redis.call('keys', '{oncegate}r:*')) do \
                local bytes, id = redis.call('get', key), string.sub(key, 13) \
                local at, record = cmsgpack.unpack_one(bytes) \
                local behind = at < 0 and 0 or #bytes - at \
                if behind ~= (record[19] <= 8192 and record[19] or 0) then table.insert(wrong, 'answer') end \
                local last = record[2] == 's' and record[13] + record[11] or record[13] \
                local function look(set, least, most) \
                    local at = tonumber(redis.call('zscore', '{oncegate}' .. set, id) or -1) \
                    local lives = redis.call('pttl', '{oncegate}' .. set) >= redis.call('pttl', key) \
                    if at < least or at > most or not lives then table.insert(wrong, string.sub(set, 1, 2)) end \
                end \
                look(({ q = 'fq', s = 'fs', d = 'd', x = 'x' })[record[2]], record[13], record[13]) \
                look('s:' .. record[8], last, last) \
                if not record[6] then look('t:' .. record[9], last, last) end \
                if not record[6] and record[17] then look('t:' .. record[17], last, last) end \
            end \
            for phase, set in pairs({ q = 'fq', s = 'fs', d = 'd', x = 'x' }) do \
                for _, id in ipairs(redis.call('zrange', '{oncegate}' .. set, 0, -1)) do \
                    local bytes = redis.call('get', '{oncegate}r:' .. id) \
                    if bytes and string.sub(bytes, 6, 6) ~= phase then table.insert(wrong, 'not ' .. set) end \
                end \
            end \
            return wrong";
        assert_eq!(self.server.cli(&["eval", script, "0"]).trim(), "", "sets that do not fit their records");
    }
}
