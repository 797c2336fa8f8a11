/** What is published reaches those who listen at this server, or at any node of a cluster. */
const TELL_ALL = /* Lua */ `
local function tell(channel, payload) redis.call('PUBLISH', channel, payload) end
`;

/** Only those who listen at the nodes that have the channel's slot; before Redis 7 a cluster cannot, and tells all. */
const TELL_SHARD = /* Lua */ `
local function tell(channel, payload)
  local answer = redis.pcall('SPUBLISH', channel, payload)
  if type(answer) ~= 'table' or not answer.err then return end
  local is_known = not string.find(answer.err, 'nknown')
  redis.call(is_known and 'SPUBLISH' or 'PUBLISH', channel, payload)
end
`;

/**
 * The scripts of the event stream on Redis. Redis runs a script alone, so each is atomic; but it does not undo
 * one that fails half-way, so `append` decides on every entry before it writes the first.
 *
 * All keys of a session begin with KEYS[1], which holds its hash tag:
 *
 *     :meta         hash    generation, head, erased
 *     :log          stream  the entries; the id is `<seq>-0`
 *     :keys         set     natural keys of the facts in the log
 *     :replies      hash    reply id → "attempt length state last_seq"; last_seq is its newest entry in the log
 *     :text:<reply> string  the text shown of a reply that is not final
 *
 * and `:news` is the channel. They are derived here and not passed as KEYS, since trimming the log touches
 * replies that the caller cannot name; the hash tag keeps them in one slot.
 */
const PRELUDE = /* Lua */ `
local base = KEYS[1]
local META, LOG, KNOWN, REPLIES = base .. ':meta', base .. ':log', base .. ':keys', base .. ':replies'

-- The keys of a session are touched no more often by its deltas.
local TOUCHED_EVERY_MS = 60000

local function text_key(id) return base .. ':text:' .. id end

local function drop_replies()
  for _, id in ipairs(redis.call('HKEYS', REPLIES)) do redis.call('DEL', text_key(id)) end
  redis.call('DEL', REPLIES)
end

-- Where the stream stands; begins it with the given generation where there is none. Should only its other keys
-- have survived (an eviction), they belong to a generation that no cursor names any more.
local function begin(generation, retention_ms)
  local known = redis.call('HMGET', META, 'generation', 'head', 'erased')
  if known[1] then return known[1], tonumber(known[2]), known[3] end
  drop_replies()
  redis.call('DEL', LOG, KNOWN)
  redis.call('HSET', META, 'generation', generation, 'head', 0)
  redis.call('PEXPIRE', META, retention_ms)
  return generation, 0, false
end

local function load_reply(id)
  local stored = redis.call('HGET', REPLIES, id)
  if not stored then return nil end
  local attempt, length, state, last_seq = string.match(stored, '^(%d+) (%d+) (%a+) (%d+)$')
  return { attempt = tonumber(attempt), length = tonumber(length), state = state, last_seq = tonumber(last_seq) }
end

local function store_reply(id, reply)
  redis.call('HSET', REPLIES, id,
    string.format('%d %d %s %d', reply.attempt, reply.length, reply.state, reply.last_seq))
end

-- The payload: the generation and Redis' time in microseconds, then a line "<seq> <type> <data>" for each entry (JSON
-- text holds no raw line break). Beyond the bound it is empty: read the log.
local function publish(generation, lines, max_bytes)
  local now = redis.call('TIME')
  local payload = generation .. ' ' .. now[1] .. string.format('%06d', now[2]) .. '\\n' .. table.concat(lines, '\\n')
  if #payload > max_bytes then payload = '' end
  tell(base .. ':news', payload)
end

local function line(seq, type, data) return string.format('%d %s ', seq, type) .. data end
`;

/** ARGV: a random generation, retention in ms. Gives { generation, head }. */
const HEAD = /* Lua */ `
local generation, head = begin(ARGV[1], ARGV[2])
-- Touched, so that a cursor that is given out does not expire the next moment.
redis.call('PEXPIRE', META, ARGV[2])
return { generation, head }
`;

/**
 * ARGV: a random generation, retention in ms, the log's cap and by how much it may exceed it, the most bytes of
 * a payload, the entries (JSON array of EntryRecord). Gives an AppendResult as JSON.
 */
const APPEND = /* Lua */ `
local retention_ms, log_cap, log_slack, max_bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local entries = cjson.decode(ARGV[6])
local null = cjson.null

local refused = cjson.encode({ status = 'refused' })
local function behind(id, reply)
  return cjson.encode({
    status = 'behind', replyId = id, attempt = reply and reply.attempt or 0, length = reply and reply.length or 0,
  })
end

local generation, head, erased = begin(ARGV[1], retention_ms)
if erased then return refused end

-- Decide. replies: the state of each reply as the entries before leave it; false where there is none.
local replies, keys, accepted = {}, {}, {}

-- Whether the entry goes into the log, or is ignored; or nil, and what to answer instead of appending any.
local function decide(entry)
  if entry.key ~= null then
    if keys[entry.key] or redis.call('SISMEMBER', KNOWN, entry.key) == 1 then return false end
  end
  if entry.effect == null then return true end

  local id = entry.replyId
  if replies[id] == nil then replies[id] = load_reply(id) or false end
  local reply = replies[id]
  if reply and entry.attempt < reply.attempt then return nil, refused end
  local is_shut = reply and (reply.state == 'final' or reply.state == 'sealed' and not entry.endsLater)
  -- A paused one takes nothing more of its attempt, and opens with the next.
  local is_paused = reply and reply.state == 'paused' and not entry.endsLater

  if entry.effect == 'start' then
    if is_shut then return nil, refused end
    if not reply then
      replies[id] = { attempt = entry.attempt, length = 0, state = 'open' }
    elseif entry.attempt > reply.attempt then
      reply.attempt, reply.length = entry.attempt, 0
      if reply.state == 'paused' then reply.state = 'open' end
      entry.resets = true
    elseif is_paused then
      return nil, refused
    end
  elseif entry.effect == 'pause' then
    if is_shut or reply and reply.state == 'sealed' then return nil, refused end
    if not reply or entry.attempt > reply.attempt then
      replies[id] = { attempt = entry.attempt, length = 0 }
      entry.resets = true
    end
    replies[id].state = 'paused'
  elseif entry.effect == 'delta' then
    if not reply or entry.attempt > reply.attempt then return nil, behind(id, reply) end
    if is_shut or is_paused then return nil, refused end
    if entry.offset + entry.length <= reply.length then return false end
    if entry.offset ~= reply.length then return nil, behind(id, reply) end
    reply.length = reply.length + entry.length
  else
    local length = entry.length
    if length ~= null then
      local has_all = length == 0
      if reply then has_all = reply.attempt == entry.attempt and reply.length == length end
      if not has_all then return nil, behind(id, reply) end
    end
    reply = reply or { length = 0 }
    reply.attempt, reply.state = entry.attempt, 'final'
    replies[id] = reply
  end
  return true
end

for _, entry in ipairs(entries) do
  local is_new, answer = decide(entry)
  if is_new == nil then return answer end
  if is_new then
    if entry.key ~= null then keys[entry.key] = true end
    accepted[#accepted + 1] = entry
  end
end

-- Write.
if #accepted > 0 then
  -- begun: the replies whose text has its first piece here, and thus a key without an end
  local lines, changed, begun, has_fact = {}, {}, {}, false
  local time = redis.call('TIME')
  local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  for _, entry in ipairs(accepted) do
    head = head + 1
    local fields = { 'type', entry.type, 'data', entry.data }
    if entry.key ~= null then
      has_fact = true
      redis.call('SADD', KNOWN, entry.key)
      fields[#fields + 1] = 'key'
      fields[#fields + 1] = entry.key
      fields[#fields + 1] = 'at'
      fields[#fields + 1] = now_ms
    end
    if entry.effect ~= null then
      local id = entry.replyId
      fields[#fields + 1] = 'reply'
      fields[#fields + 1] = id
      replies[id].last_seq = head
      changed[id] = true
      if entry.effect == 'delta' then
        redis.call('APPEND', text_key(id), cjson.decode(entry.data).text)
        if entry.offset == 0 then begun[id] = true end
      elseif entry.effect == 'end' or entry.resets then
        redis.call('DEL', text_key(id))
      end
    end
    redis.call('XADD', LOG, head .. '-0', unpack(fields))
    lines[#lines + 1] = line(head, entry.type, entry.data)
  end
  redis.call('HSET', META, 'head', head)
  -- Touched by facts, and by what comes a while after them: deltas are many.
  local is_due = has_fact or redis.call('PTTL', LOG) < retention_ms - TOUCHED_EVERY_MS
  for id in pairs(changed) do
    store_reply(id, replies[id])
    if is_due or begun[id] then redis.call('PEXPIRE', text_key(id), retention_ms) end
  end

  -- What is trimmed takes its natural key along, and its reply where it was the reply's newest entry: nothing
  -- grows with the age of a session. In steps, so that most appends don't pay for it.
  local excess = redis.call('XLEN', LOG) - log_cap
  if excess > log_slack then
    for _, old in ipairs(redis.call('XRANGE', LOG, '-', '+', 'COUNT', excess)) do
      local seq = tonumber(string.match(old[1], '^%d+'))
      for i = 5, #old[2], 2 do
        local name, value = old[2][i], old[2][i + 1]
        if name == 'key' then
          redis.call('SREM', KNOWN, value)
        elseif name == 'reply' then
          local reply = load_reply(value)
          if reply and reply.last_seq <= seq then
            redis.call('HDEL', REPLIES, value)
            redis.call('DEL', text_key(value))
          end
        end
      end
    end
    redis.call('XTRIM', LOG, 'MAXLEN', '=', log_cap)
  end

  if is_due then
    for _, key in ipairs({ META, LOG, KNOWN, REPLIES }) do redis.call('PEXPIRE', key, retention_ms) end
  end
  publish(generation, lines, max_bytes)
end
return cjson.encode({ status = 'appended', cursor = { generation = generation, seq = head } })
`;

/** ARGV: seq, limit, the size at which to stop. Gives {} where there is no stream, else { generation, head, seq, type, data, seq, … }. */
const READ = /* Lua */ `
local known = redis.call('HMGET', META, 'generation', 'head')
if not known[1] then return {} end
local result = { known[1], tonumber(known[2]) }
local bytes = 0
for _, entry in ipairs(redis.call('XRANGE', LOG, '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])) do
  result[#result + 1] = tonumber(string.match(entry[1], '^%d+'))
  result[#result + 1] = entry[2][2]
  result[#result + 1] = entry[2][4]
  bytes = bytes + #entry[2][4]
  if bytes >= tonumber(ARGV[3]) then break end
end
return result
`;

/** ARGV: a random generation, retention in ms, reply ids. Gives { generation, head, { id, attempt, length, text }, … }. */
const SHOWN = /* Lua */ `
local generation, head = begin(ARGV[1], ARGV[2])
local result = { generation, head }
for i = 3, #ARGV do
  local reply = load_reply(ARGV[i])
  if reply and reply.state ~= 'final' then
    result[#result + 1] = { ARGV[i], reply.attempt, reply.length, redis.call('GET', text_key(ARGV[i])) or '' }
  end
end
return result
`;

/** ARGV: reply id, a random generation, retention in ms. Gives { attempt, length, text }; {} where the reply is final. */
const SEAL = /* Lua */ `
local _, head, erased = begin(ARGV[2], ARGV[3])
if erased then return {} end
-- Also a reply without text yet, as attempt 0: its first may be on the way.
local reply = load_reply(ARGV[1]) or { attempt = 0, length = 0, last_seq = head }
if reply.state == 'final' then return {} end
reply.state = 'sealed'
store_reply(ARGV[1], reply)
redis.call('PEXPIRE', META, ARGV[3])
redis.call('PEXPIRE', REPLIES, ARGV[3])
return { reply.attempt, reply.length, redis.call('GET', text_key(ARGV[1])) or '' }
`;

/**
 * ARGV: a random generation, retention in ms of the refusal, of the last entry, the most bytes of a payload, type and
 * data of the last entry. A log of one entry takes 5 kB, so it goes first; the refusal is a small hash.
 */
const ERASE = /* Lua */ `
local generation, head, erased = begin(ARGV[1], ARGV[2])
if erased then return end
head = head + 1
drop_replies()
redis.call('DEL', LOG, KNOWN)
redis.call('HSET', META, 'head', head, 'erased', 1)
redis.call('XADD', LOG, head .. '-0', 'type', ARGV[5], 'data', ARGV[6])
redis.call('PEXPIRE', META, ARGV[2])
redis.call('PEXPIRE', LOG, ARGV[3])
publish(generation, { line(head, ARGV[5], ARGV[6]) }, tonumber(ARGV[4]))
`;

/**
 * The scripts, by the name of the command that each becomes.
 *
 * @param isSharded whether what is published is for the nodes alone that have the channel's slot
 */
export const luaScripts = (isSharded: boolean): Record<string, string> =>
  Object.fromEntries(
    Object.entries({
      streamHead: HEAD,
      streamAppend: APPEND,
      streamRead: READ,
      streamShown: SHOWN,
      streamSeal: SEAL,
      streamErase: ERASE,
    }).map(([name, script]) => [name, (isSharded ? TELL_SHARD : TELL_ALL) + PRELUDE + script]),
  );
