-- Claims and completions as nearly all are, as many as a worker asks for at once: claims, without places, of what is not known
-- yet or was answered and is kept; completions, of an attempt under its lease, that end nothing else. Answers for each the
-- instant, the recorded answer, or nil where it is another one: that one was not touched, and is asked for again as claim.lua
-- or complete.lua, which do all of them.
--
-- What these share is asked and written once: the clock, how much a scope has, a sorted set with all its new entries. A
-- record's bytes are cut and put together as they are, because taking all of it apart costs more than what is done with it:
-- who claims what comes from the gateway as it stands in the record (7 to 118), and behind it stand ten short fields.
--
-- KEYS: the records, the clock, and on a cluster the sets of all phases. ARGV: 3 what the gateways agreed on, then for each
-- record `c`, how long claim.lua's ARGV[3] is, that, and the resources above the target one behind the other; or `d`,
-- complete.lua's ARGV[3], and the answer.

-- `false` in a record's bytes.
local FALSE = 194

-- Whether a record's bytes lie as it is read here: an array of 22 or 23 fields (no slots), the version, and who
-- claimed what, each of its own length, between the phase and the tenth field. What was settled by hand has a token of another length.
local function is_plain(bytes)
  local array, _, count, version = string.byte(bytes, 1, 4)
  return array == 220 and count < 24 and version == FORMAT and string.byte(bytes, 7) == 176 and string.byte(bytes, 102) == 176
end

local call, sub, byte = redis.call, string.sub, string.byte
local count = #ARGV - 3
local CLOCK = KEYS[count + 1]
local found, answers = call('MGET', unpack(KEYS, 1, count + 1)), {}
local now, floor, life, own_clock = instant(call('TIME'), found[count + 1])

-- What is to be written: entries of sorted sets, how long each set has to live and which of them may not yet, who leaves the
-- set of those that are sent, and records.
local entered, lives, grown, settled, records = {}, {}, {}, {}, {}
-- What is known of this step: records that it changes, how much a scope has, and how many keys there are.
local changed, held, keys = {}, {}, nil

-- What has been made once: instants in digits, and claims by what they have in common.
local texts, kinds = {}, {}

local function in_digits(instant)
  local text = texts[instant]
  if not text then
    text = digits(instant)
    texts[instant] = text
  end
  return text
end

-- `again`: it is there already, and so far until a later instant.
local function to_enter(set, score, id, last, again)
  local entries = entered[set]
  if not entries then
    entries = { set }
    entered[set] = entries
  end
  local count = #entries
  entries[count + 1], entries[count + 2] = score, id
  if last > (lives[set] or 0) then lives[set] = last end
  if not again then grown[set] = true end
end

-- Writes a record, when all entries are there; `told`: what is published then.
local function to_write(key, record, last, told)
  local count = #records
  records[count + 1], records[count + 2], records[count + 3], records[count + 4] = key, record, last, told
end

-- What claims of one route have in common.
local function kind_of(given)
  local lease, doubt_for, quota, most, is_sent = struct.unpack('>I8I8I4I8B', given, 4)
  local sent, over = is_sent == 1, now + lease
  -- As `put` would write it, up to the phase and behind the target: an array of 22; claimed, how long a doubt is kept, ended,
  -- until, since, why, status, names, waited, length.
  local fields = struct.pack('>BI8BI8BBI8BI8BBBBB', 207, now, 207, doubt_for, FALSE, 207, over, 207, now, FALSE, 0,
    FALSE, FALSE, 0)
  return {
    quota = quota, most = most, set = P .. (sent and 'fs' or 'fq'), over = over, last = sent and over + doubt_for or over,
    front = sent and '\220\0\22\2\161s' or '\220\0\22\2\161q', fields = fields,
  }
end

local function claim(key, bytes, given)
  local high, low = byte(given, 2, 3)
  local length = high * 256 + low
  local above = sub(given, 4 + length)
  if bytes then
    if byte(bytes, 6) ~= 100 or not (sub(bytes, 43, 74) == sub(given, 69, 100) or sub(bytes, 77, 84) ~= sub(given, 103, 110)) then
      return nil
    end
    local _, _, _, _, over, since, _, _, names, _, size = cmsgpack.unpack_limit(bytes, 10, 118)
    if now >= over or size > INLINE then return nil end
    if byte(bytes, 75) == FALSE and above ~= '' then
      -- As `has_ended_above` says, in one command.
      local asked, whose = {}, names and sub(bytes, 86, 101) or ''
      for at = 1, #above, 16 do asked[#asked + 1] = P .. 'b:' .. sub(above, at, at + 15) .. whose end
      for _, ended in ipairs(call('MGET', unpack(asked))) do
        if ended and tonumber(ended) > since then return nil end
      end
    end
    return sub(bytes, -size)
  end

  local id, scope, target = sub(key, #P + 3), P .. 's:' .. sub(given, 112, 127), nil
  if byte(given, 101) == FALSE then target = P .. 't:' .. sub(given, 129, 144) end
  -- What is over has to go from these sets; one claim in sixteen does it for all.
  if byte(id, -1) % 16 == 0 then
    purge(scope, now, 64)
    if target then purge(target, now, 64) end
  end
  local of = sub(given, 4, 32)
  local kind = kinds[of] or kind_of(given)
  kinds[of] = kind
  -- Each record has a key, so there are no more records than keys.
  local has, all = held[scope] or call('ZCARD', scope), keys or call('DBSIZE')
  if has >= kind.quota or all >= kind.most then return nil end
  held[scope], keys = has + 1, all + 1
  local last = kind.last
  local ends = in_digits(last)
  to_enter(kind.set, in_digits(kind.over), id, last)
  to_enter(scope, ends, id, last)
  if target then to_enter(target, ends, id, last) end
  to_write(key, kind.front .. sub(given, 33, 144) .. kind.fields .. sub(given, 145, 3 + length), last, false)
  return now
end

local function complete(key, bytes, given)
  local token, keep, status, _, names, behind = struct.unpack('>c16I8I2BBc0', given, 2)
  if not bytes or byte(bytes, 6) ~= 115 or sub(bytes, 8, 23) ~= token then return nil end
  local rest, claimed, doubt_for, ended, over, _, why, _, named, waited, _ = cmsgpack.unpack_limit(bytes, 10, 118)
  if now >= over or ended or why or named then return nil end
  -- No alias and how long it lasts, no slots and nothing that is given back stand before the answer: 14 bytes.
  local id, last, answer = sub(key, #P + 3), now + keep, sub(given, behind + 14)
  local ends, is_keyless = in_digits(last), byte(bytes, 75) == FALSE
  to_enter(P .. 'd', ends, id, last)
  settled[#settled + 1] = id
  -- Its claim entered it into these for as long as its doubt could have counted.
  local again = last <= over + doubt_for
  to_enter(P .. 's:' .. sub(bytes, 86, 101), ends, id, last, again)
  if is_keyless then
    to_enter(P .. 't:' .. sub(bytes, 103, 118), ends, id, last, again)
    if names ~= '' then
      -- Claims on that resource may never come, so what is over goes from its set here.
      if byte(id, -1) % 16 == 0 then purge(P .. 't:' .. names, now, 64) end
      to_enter(P .. 't:' .. names, ends, id, last)
    end
  end
  local fields = struct.pack('>BI8BI8BBI8BI8B', 207, claimed, 207, doubt_for, FALSE, 207, last, 207, now, FALSE)
  local record = sub(bytes, 1, 5) .. 'd' .. sub(bytes, 7, 118) .. fields
    .. cmsgpack.pack(status, names ~= '' and names, false, #answer) .. sub(bytes, rest + 1) .. answer
  to_write(key, record, last, waited and id .. token .. answer)
  return now
end

for at = 1, count do
  local key, bytes, given, told = KEYS[at], found[at], ARGV[at + 3], nil
  if life and not changed[key] and (not bytes or is_plain(bytes)) then
    if byte(given) ~= 99 then
      told = complete(key, bytes, given)
    elseif life == ARGV[3] then
      told = claim(key, bytes, given)
    end
  end
  if told == now then changed[key] = true end
  answers[at] = told or false
end

if #records > 0 then
  if now ~= floor then set_clock(CLOCK, now, life) end
  for set, entries in pairs(entered) do
    if call('ZADD', unpack(entries)) > 0 or grown[set] then live_until(set, lives[set], own_clock) end
  end
  if #settled > 0 then call('ZREM', P .. 'fs', unpack(settled)) end
  for at = 1, #records, 4 do
    call('SET', records[at], records[at + 1], 'PXAT', in_digits(records[at + 2] + SLACK))
    if records[at + 3] then call('PUBLISH', ARGV[2], 'a' .. records[at + 3]) end
  end
end
return answers
