#!lua name=LIBRARY
-- What `engine.stores.valkey` does in one step on the server. It knows lines and columns, and no questions. A library
-- of functions, and not a script, because that keeps what it worked out about shapes from call to call.
--
-- A line is a sorted set: the events of one key of a series. Its score is their time, and a member is, field by field,
--
--     arrival ; time ; ordinal ; the fields of each column, each ended by a semicolon
--
-- The arrival has 16 digits, so that events of one time stand by arrival. Totals are those BEFORE the event: what
-- a stretch holds is the difference of two members, whatever is between them. The fields of a column, by its letter:
--
--     S  number, unit of the run, total, how many had a number, how many of these before the run of one unit
--     Q  as S, then the square of the number and the total of the squares
--     V  =text, time of the sight of this text before
--     R  how many in a row up to this event
--     P  steps of a pattern, as bits
--     K  number, unit, the number once more so that texts stand in the order of numbers
--
-- For each length of stretch whose ranks were asked for, a K column has a view: the numbers from some time on, in order
-- (`line:column:length`); `line:views` has the time from which on each one has them all.
--
-- A V column has a sorted set beside the line (`line:column`): when each text was seen last. A member that begins with
-- "!" is not an event: it stands for all that were dropped up to its time although a question may reach them.
-- A number is an integer in plain digits below 2^53, or "Be,l,l,…": limbs of seven digits, the lowest of 10^(7e).
-- All keys belong to one tenant, and their names have its hash tag: one slot of a cluster.

local call, format, match, floor, KEYS, ARGV -- There once a call runs: while a library is loaded, nothing is.
local WIDTH = {S = 5, Q = 7, V = 2, R = 1, P = 1, K = 3}
local HOUR = 3600000000
local LIMIT = 9007199254740992
local BASE = 10000000
local BATCH = 400
-- Most numbers that a view takes in at once: more would keep the server from the others for too long.
local MOST = 2000
-- Most events of a key that may be later than a late one. Before more, it is not let in: what reaches back to it is lost.
local LATE = 2000
-- For how long (µs of arrival) news are kept. Who hears none for half of it reads the ledger instead.
local KEPT = 120000000

-- Numbers

local function limbs_of(text)
  local limbs, low, high = {}, 0, 1
  local number = tonumber(text)
  if number then
    limbs[0] = number % BASE
    limbs[1] = (number - limbs[0]) / BASE
    return limbs, low, high
  end
  local place
  for limb in string.gmatch(string.sub(text, 2), '[^,]+') do
    if place then
      limbs[place] = tonumber(limb)
      place = place + 1
    else
      low = tonumber(limb)
      place = low
    end
  end
  return limbs, low, place - 1
end

local function add_long(one, other)
  local sum, low, high = limbs_of(one)
  local more, more_low, more_high = limbs_of(other)
  low, high = math.min(low, more_low), math.max(high, more_high)
  local written, carry, place = {'B' .. low}, 0, low
  while place <= high or carry >= BASE or carry < -BASE do
    local limb = (sum[place] or 0) + (more[place] or 0) + carry
    carry = floor(limb / BASE)
    written[#written + 1] = format('%.0f', limb - carry * BASE)
    place = place + 1
  end
  written[#written + 1] = format('%.0f', carry)
  return table.concat(written, ',')
end

local function add(one, other)
  if other == '' or other == '0' then return one end
  local a, b = tonumber(one), tonumber(other)
  if a and b then
    local sum = a + b
    if sum < LIMIT and sum > -LIMIT then return format('%.0f', sum) end
  end
  return add_long(one, other)
end

-- Members

-- Of a shape: its columns as {letter, where its fields begin}, those of texts as {number, where}, where those of ranks
-- begin by their number, and how many fields there are.
local shapes = {}
local function shape_of(letters)
  local shape = shapes[letters]
  if shape then return shape end
  shape = {columns = {}, texts = {}, ranks = {}, has_ranks = false, width = 3}
  for number = 1, #letters do
    local letter = string.sub(letters, number, number)
    shape.columns[number] = {letter, shape.width + 1}
    if letter == 'V' then shape.texts[#shape.texts + 1] = {number - 1, shape.width + 1} end
    if letter == 'K' then
      shape.ranks[number - 1] = shape.width + 1
      shape.has_ranks = true
    end
    shape.width = shape.width + WIDTH[letter]
  end
  -- A pattern has at most 32 captures.
  if shape.width <= 32 then shape.pattern = '^' .. string.rep('([^;]*);', shape.width) end
  shapes[letters] = shape
  return shape
end

local function split(member, shape)
  if shape.pattern then return {match(member, shape.pattern)} end
  local fields, count = {}, 0
  for field in string.gmatch(member, '([^;]*);') do
    count = count + 1
    fields[count] = field
  end
  return fields
end

local function is_lost(member)
  return string.byte(member, 1) == 33
end

local function moment(fields)
  return tonumber(fields[2])
end

-- Fill in what `own` has because of the event `before` it; where there is none, because of `after`, which was there.
local function follow(shape, before, own, after)
  own[3] = before and format('%.0f', before[3] + 1) or after and after[3] or '1'
  for _, column in ipairs(shape.columns) do
    local letter, at = column[1], column[2]
    if letter == 'S' or letter == 'Q' then
      local total, count, unit, run = '0', 0, '', 0
      if before then
        total, count, unit, run = before[at + 2], before[at + 3], before[at + 1], before[at + 4]
        if before[at] ~= '' then
          total, count = add(total, before[at]), count + 1
        end
      elseif after then
        total, count, run = after[at + 2], after[at + 3], after[at + 3]
      end
      if own[at] == '' then
        own[at + 1] = unit
      elseif own[at + 1] ~= unit then
        run = count
      end
      own[at + 2], own[at + 3], own[at + 4] = total, count, run
      if letter == 'Q' then
        own[at + 6] = before and add(before[at + 6], before[at + 5]) or after and after[at + 6] or '0'
      end
    elseif letter == 'R' then
      if own[at] ~= '0' then own[at] = before and before[at] + 1 or 1 end
    end
  end
end

local function joined(fields)
  return table.concat(fields, ';') .. ';'
end

-- Lines

local function put(line, rows)
  for first = 1, #rows, BATCH do
    local args = {}
    for place = first, math.min(#rows, first + BATCH - 1) do
      args[#args + 1] = rows[place][2]
      args[#args + 1] = joined(rows[place])
    end
    call('ZADD', line, unpack(args))
  end
end

-- How many members are before (at, arrival), and whether the next one is the event itself.
local function find(line, shape, at, arrival)
  local probe = format('%016.0f', arrival)
  call('ZADD', line, at, probe)
  local place = call('ZRANK', line, probe)
  call('ZREM', line, probe)
  local next = call('ZRANGE', line, place, place)[1]
  if next and string.sub(next, 1, 17) == probe .. ';' then
    local fields = split(next, shape)
    return place, moment(fields) == tonumber(at) and fields or nil
  end
  return place, nil
end

-- Replace all from a place on: `olds` are there, `news` shall be, both in order. What depends on the ones before is
-- worked out anew.
local function lay(line, shape, place, olds, news)
  local before = place > 0 and call('ZRANGE', line, place - 1, place - 1)[1]
  before = before and split(before, shape) or nil
  local after = olds[1]
  for _, text in ipairs(shape.texts) do
    local recent, at = line .. ':' .. text[1], text[2]
    local first, seen = {}, {}
    for _, old in ipairs(olds) do
      if old[at] ~= '' and first[old[at]] == nil then first[old[at]] = old[at + 1] end
    end
    for _, new in ipairs(news) do
      local value = new[at]
      if value ~= '' then
        new[at + 1] = seen[value] or first[value] or call('ZSCORE', recent, value) or ''
        seen[value] = new[2]
      else
        new[at + 1] = ''
      end
    end
    for value, time in pairs(seen) do call('ZADD', recent, time, value) end
    for value, time in pairs(first) do
      if not seen[value] then
        if time == '' then call('ZREM', recent, value) else call('ZADD', recent, time, value) end
      end
    end
  end
  if #olds > 0 then call('ZREMRANGEBYRANK', line, place, -1) end
  for _, new in ipairs(news) do
    follow(shape, before, new, after)
    before = new
  end
  put(line, news)
end

local function all(members, shape)
  local rows = {}
  for place, member in ipairs(members) do rows[place] = split(member, shape) end
  return rows
end

-- Views

-- The member of a view for a row; nil when it has no number. At its end is the arrival, so that all differ.
local function ranked(row, at)
  return row[at] ~= '' and row[at + 1] .. ',' .. row[at + 2] .. ',' .. row[at] .. ',' .. row[1] or nil
end

-- Let rows into a view, or out of it.
local function change(view, at, rows, out)
  local args = {}
  for place, row in ipairs(rows) do
    local member = ranked(row, at)
    if member then
      if not out then args[#args + 1] = 0 end
      args[#args + 1] = member
    end
    if #args >= BATCH or (place == #rows and #args > 0) then
      call(out and 'ZREM' or 'ZADD', view, unpack(args))
      args = {}
    end
  end
end

-- Tell all views of a line that rows came, or went.
local function changed(line, shape, rows, out)
  if not shape.has_ranks then return end
  local views = call('HGETALL', line .. ':views')
  for place = 1, #views, 2 do
    local begin, seen = tonumber(views[place + 1]), {}
    for _, row in ipairs(rows) do
      if moment(row) >= begin then seen[#seen + 1] = row end
    end
    change(line .. ':' .. views[place], shape.ranks[tonumber(match(views[place], '^%d+'))], seen, out)
  end
end

-- Make a view begin at another time, as far as that can be done at once; the time from which on it then has all.
local function move(line, shape, name, begin, since)
  local view, at = line .. ':' .. name, shape.ranks[tonumber(match(name, '^%d+'))]
  local from, to, rows = format('%.0f', since), begin and '(' .. format('%.0f', begin) or '+inf', {}
  if begin and since > begin then
    from, to = format('%.0f', begin), '(' .. from
    local gone, held = call('ZCOUNT', line, from, to), call('ZCARD', view)
    if 2 * gone > held and held - gone <= MOST then
      call('UNLINK', view)
      return move(line, shape, name, nil, since)
    end
    if gone > 0 then rows = all(call('ZRANGE', line, from, to, 'BYSCORE', 'LIMIT', 0, MOST), shape) end
  elseif not begin or since < begin then
    rows = all(call('ZRANGE', line, to, from, 'BYSCORE', 'REV', 'LIMIT', 0, MOST), shape)
  end
  local out = begin and since > begin
  if #rows == MOST then
    -- Not further than this; events of one time go together.
    local last = moment(rows[MOST])
    if moment(rows[1]) == last then
      rows = all(call('ZRANGE', line, format('%.0f', last), format('%.0f', last), 'BYSCORE'), shape)
      since = out and last + 1 or last
    else
      while moment(rows[#rows]) == last do rows[#rows] = nil end
      since = out and last or last + 1
    end
  end
  change(view, at, rows, out)
  call('HSET', line .. ':views', name, format('%.0f', since))
  return since
end

-- What has which rank in a stretch, without the rows `later`. `asked`: per column "n:" and its questions, each "n/d" for
-- the smallest number that this share do not pass, or "p" and what comes before all that is not below the own number.
-- Puts into `result` per column: how many there are (false: not known yet; -1: too far back), the first, the last, and an answer each.
local function ranks(line, shape, since, length, later, asked, result)
  for column, questions in string.gmatch(asked, '(%d+):([^;]*);') do
    local name, at = column .. ':' .. length, shape.ranks[tonumber(column)]
    local view, begin = line .. ':' .. name, call('HGET', line .. ':views', name)
    if move(line, shape, name, begin and tonumber(begin), tonumber(since)) ~= tonumber(since) then
      result[#result + 1] = false
    else
      change(view, at, later, true)
      local size = call('ZCARD', view)
      result[#result + 1] = size
      result[#result + 1] = call('ZRANGE', view, 0, 0)[1] or false
      result[#result + 1] = call('ZRANGE', view, -1, -1)[1] or false
      for question in string.gmatch(questions, '[^ ]+') do
        local above, below = match(question, '^(%d+)/(%d+)$')
        if above then
          local most = above * size + below - 1
          local rank = math.max(1, (most - most % below) / below)
          result[#result + 1] = call('ZRANGE', view, rank - 1, rank - 1)[1] or false
        else
          result[#result + 1] = call('ZLEXCOUNT', view, '-', '(' .. string.sub(question, 2))
        end
      end
      change(view, at, later, false)
    end
  end
end

-- Whether a view has these rows: only such may go and come back.
local function after(since, rows)
  local found = {}
  for _, row in ipairs(rows) do
    if moment(row) >= tonumber(since) then found[#found + 1] = row end
  end
  return found
end

-- Drop what no question reaches, a little at a time, and all but the newest `cap` and one.
local function trim(line, shape, horizon, cap)
  local out = '(' .. format('%.0f', horizon)
  local over = math.min(call('ZCARD', line) - cap - 1, BATCH)
  local last = over > 1 and call('ZRANGE', line, over - 1, over - 1)[1]
  local lost = last and split(last, shape)
  if lost and moment(lost) < horizon then lost = nil end
  if shape.has_ranks then
    -- Out of the views first, while they can still be read.
    local begin = lost and moment(lost) + 1 or horizon
    local views = call('HGETALL', line .. ':views')
    for place = 1, #views, 2 do
      if tonumber(views[place + 1]) < begin then move(line, shape, views[place], tonumber(views[place + 1]), begin) end
    end
  end
  local count = call('ZCOUNT', line, '-inf', out)
  if count > 0 then call('ZREMRANGEBYRANK', line, 0, math.min(count, BATCH) - 1) end
  if lost then
    call('ZREMRANGEBYRANK', line, 0, call('ZRANK', line, last))
    if not is_lost(lost[1]) then lost[1] = '!' .. lost[1] end
    call('ZADD', line, lost[2], joined(lost))
    out = '(' .. lost[2]
  end
  for _, text in ipairs(shape.texts) do
    local recent = line .. ':' .. text[1]
    local old = call('ZCOUNT', recent, '-inf', out)
    if old > 0 then call('ZREMRANGEBYRANK', recent, 0, math.min(old, BATCH) - 1) end
  end
end

-- Let go of all before a place, where an event should be that comes too late to be let in.
local function lose(line, shape, place, at)
  local mark = split(call('ZRANGE', line, place, place)[1], shape)
  if not is_lost(mark[1]) then mark[1] = '!' .. mark[1] end
  mark[2], mark[3] = at, format('%.0f', mark[3] - 1)
  for _, column in ipairs(shape.columns) do
    mark[column[2]] = column[1] == 'R' and '0' or ''
    if column[1] == 'Q' then mark[column[2] + 5] = '' end
  end
  if place > 0 then call('ZREMRANGEBYRANK', line, 0, place - 1) end
  call('ZADD', line, at, joined(mark))
  for _, text in ipairs(shape.texts) do call('ZREMRANGEBYSCORE', line .. ':' .. text[1], '-inf', '(' .. at) end
  if shape.has_ranks then
    for _, view in ipairs(call('HKEYS', line .. ':views')) do call('UNLINK', line .. ':' .. view) end
    call('UNLINK', line .. ':views')
  end
end

-- Add rows, sorted, with their own values, that are not there yet. `most`: before more than so many later ones the first
-- is not let in.
local function merge(line, shape, rows, most)
  local place, news, olds = 0, {}, {}
  local last = call('ZRANGE', line, -1, -1)[1]
  if last then
    place = call('ZCARD', line)
    local fields = split(last, shape)
    local end_at, first_at = moment(fields), moment(rows[1])
    if end_at > first_at or (end_at == first_at and fields[1] >= rows[1][1]) then
      local count = place
      place = find(line, shape, rows[1][2], rows[1][1])
      if most and count - place > most then return lose(line, shape, place, rows[1][2]) end
      olds = all(call('ZRANGE', line, place, -1), shape)
    end
  end
  if place == 0 and olds[1] and is_lost(olds[1][1]) then
    -- Whatever reaches these reaches what is lost: they can go with it.
    local lost, kept = moment(olds[1]), {}
    for _, row in ipairs(rows) do
      if moment(row) >= lost then kept[#kept + 1] = row end
    end
    if #kept == 0 then return end
    return merge(line, shape, kept, most)
  end
  local next, fresh = 1, {}
  for _, row in ipairs(rows) do
    local at = moment(row)
    while olds[next] and (moment(olds[next]) < at or (moment(olds[next]) == at and olds[next][1] < row[1])) do
      news[#news + 1] = olds[next]
      next = next + 1
    end
    if not (olds[next] and olds[next][1] == row[1] and moment(olds[next]) == at) then
      news[#news + 1] = row
      fresh[#fresh + 1] = row
    end
  end
  for rest = next, #olds do news[#news + 1] = olds[rest] end
  lay(line, shape, place, olds, news)
  changed(line, shape, fresh, false)
end

-- How many texts the stretch from a time up to a rank holds.
local function distinct(line, shape, column, at, since, finish)
  local recent, count = line .. ':' .. column, call('ZCARD', line)
  if finish == count then return call('ZCOUNT', recent, since, '+inf') end
  local begin = call('ZCOUNT', line, '-inf', '(' .. since)
  if begin >= finish then return 0 end
  local seen, found = {}, 0
  if finish - begin <= count - finish then
    for _, member in ipairs(call('ZRANGE', line, begin, finish - 1)) do
      local value = split(member, shape)[at]
      if value ~= '' and not seen[value] then
        seen[value] = true
        found = found + 1
      end
    end
    return found
  end
  found = call('ZCOUNT', recent, since, '+inf')
  for _, member in ipairs(call('ZRANGE', line, finish, -1)) do
    local fields = split(member, shape)
    local value = fields[at]
    if value ~= '' and not seen[value] then
      seen[value] = true
      local sight = tonumber(fields[at + 1])
      if not (sight and sight >= tonumber(since)) then found = found - 1 end
    end
  end
  return found
end

-- Events

-- Own values from the arguments, at the places of a member's fields; and where the arguments go on.
local function own_of(shape, arrival, at, from)
  local own, given = {arrival, at, ''}, ARGV
  for _, column in ipairs(shape.columns) do
    local letter, place = column[1], column[2]
    own[place] = given[from]
    from = from + 1
    if letter == 'S' or letter == 'K' or letter == 'Q' then
      own[place + 1] = given[from]
      from = from + 1
    end
    if letter == 'Q' or letter == 'K' then
      own[place + (letter == 'Q' and 5 or 2)] = given[from]
      from = from + 1
    end
  end
  return own, from
end

-- The arrival an event has, and whether it is new. KEYS: meta, ids of its hour, index, pending.
local function enter(id, at, least, lateness, longest)
  local meta = call('HMGET', KEYS[1], 'clock', 'last', 'epoch')
  local clock, last = tonumber(meta[1]), tonumber(meta[2]) or -1
  local first = call('HGET', KEYS[2], id)
  if first then return tonumber(first), false, math.max(clock, at), meta[3] end
  local arrival = math.max(last + 1, least)
  local added = not clock or at >= clock - longest - lateness
  clock = math.max(clock or at, at)
  call('HSET', KEYS[1], 'clock', format('%.0f', clock), 'last', format('%.0f', arrival))
  if added then
    call('HSET', KEYS[2], id, format('%.0f', arrival))
    if call('HLEN', KEYS[2]) == 1 then
      -- Out of reach is an hour of ids once its last event is.
      call('ZADD', KEYS[3], (floor(at / HOUR) + 1) * HOUR + longest + lateness, KEYS[2])
    end
  end
  return arrival, added, clock, meta[3]
end

-- Drop the idle: some lines, or hours of ids, that no question reaches any more. The index has when a line was out of
-- reach as of its first event; one that got more since then is looked at again later.
local function sweep(clock)
  for _, name in ipairs(call('ZRANGE', KEYS[3], '-inf', '(' .. format('%.0f', clock), 'BYSCORE', 'LIMIT', 0, 24)) do
    local reach, letters = match(name, ':(%d+):(%a*)$')
    local newest = letters and call('ZRANGE', name, -1, -1, 'WITHSCORES')[2]
    if newest and newest + reach >= clock then
      call('ZADD', KEYS[3], newest + reach, name)
    else
      local keys, shape = {name}, letters and shape_of(letters)
      for _, text in ipairs(shape and shape.texts or {}) do keys[#keys + 1] = name .. ':' .. text[1] end
      if shape and shape.has_ranks then
        for _, view in ipairs(call('HKEYS', name .. ':views')) do keys[#keys + 1] = name .. ':' .. view end
        keys[#keys + 1] = name .. ':views'
      end
      call('UNLINK', unpack(keys))
      call('ZREM', KEYS[3], name)
    end
  end
end

-- News: what processes that share the store tell each other of what each keeps in its own memory. A stream per tenant,
-- of (who, what, arrival, note), in the order in which things happened here.

local function news_of(meta)
  return (string.gsub(meta, 'meta$', 'news'))
end

local function announce(meta, who, what, arrival, note)
  local last = call('HGET', meta, 'last') or '0'
  local horizon = format('%.0f', math.max(0, tonumber(last) - KEPT))
  call('XADD', news_of(meta), 'MINID', '~', horizon, last .. '-*', 'm', who, 'w', what, 'a', arrival, 'n', note)
end

-- What others told after the place `seen`. Gives the place where the news end, the tenant's newest time, and of each
-- of them what, arrival and note.
local function heard(meta, who, seen)
  local told = {seen, call('HGET', meta, 'clock')}
  for _, entry in ipairs(call('XRANGE', news_of(meta), '(' .. seen, '+')) do
    told[1] = entry[1]
    local fields = entry[2]
    if fields[2] ~= who then
      for place = 4, 8, 2 do told[#told + 1] = fields[place] end
    end
  end
  return told
end

local operations = {}

-- KEYS: meta, ids, index, pending, a line per touch. ARGV: observe, id, at, least arrival, lateness, longest, cap, look,
-- who asks, the place up to which it heard the news ("" for a process that has the store alone), its own news ("" for
-- none), how many ids are pending no more, these, then per touch: its shape, its reach, how many frames, per frame its beginning and what it wants beside the members at its two
-- ends ("i": up to this event itself; "p": all its members unless they are more than `look`; then the V columns to
-- count, each as "|n|"; then "#" and the ranks), whether to add ("1"), and then the values. Gives: the arrival, whether new ("1"),
-- whether too late, the tenant's epoch, the news; and per touch the member before the event, that of the event, the newest
-- ordinal, and per frame its first member, the counts, the ranks and the members wanted.
function operations.observe()
  local id, at, at_text = ARGV[2], tonumber(ARGV[3]), ARGV[3]
  local lateness, longest, cap, look = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
  local arrival, new, clock, epoch = enter(id, at, tonumber(ARGV[4]), lateness, longest)
  local arrived = format('%016.0f', arrival)
  local late = at < clock - lateness
  local answer, from = {format('%.0f', arrival), new and '1' or '0', late and '1' or '0', epoch, false}, 13 + ARGV[12]
  for place = 13, from - 1 do call('HDEL', KEYS[4], ARGV[place]) end
  if ARGV[10] ~= '' then
    answer[5] = heard(KEYS[1], ARGV[9], ARGV[10])
    if new and ARGV[11] ~= '' then announce(KEYS[1], ARGV[9], 'add', answer[1], ARGV[11]) end
  end
  local pending = new and {answer[1], at_text, ARGV[9], ARGV[11]}
  for touch = 5, #KEYS do
    local line, reach, frames = KEYS[touch], tonumber(ARGV[from + 1]), tonumber(ARGV[from + 2])
    local shape = shape_of(ARGV[from])
    local asked = from + 3
    from = asked + 2 * frames
    local own
    local adds = ARGV[from] == '1'
    from = from + 1
    if adds then own, from = own_of(shape, arrived, at_text, from) end
    local last = call('ZRANGE', line, -1, -1)[1]
    local fields = last and split(last, shape)
    local in_order = not last or moment(fields) < at or (moment(fields) == at and fields[1] < arrived)
    local add = adds and new and at >= clock - reach
    local place, itself, before
    if add then pending[#pending + 1] = line end
    if in_order then
      before = last
      if add then
        for _, text in ipairs(shape.texts) do
          local value, key = own[text[2]], line .. ':' .. text[1]
          own[text[2] + 1] = value ~= '' and call('ZSCORE', key, value) or ''
          if value ~= '' then call('ZADD', key, at_text, value) end
        end
        follow(shape, fields, own, nil)
        itself = joined(own)
        call('ZADD', line, at_text, itself)
        changed(line, shape, {own}, false)
        if not last then call('ZADD', KEYS[3], at + reach, line) end
        if own[3] % 32 == 0 then trim(line, shape, clock - reach, cap) end
      end
    else
      if add then
        merge(line, shape, {own}, LATE)
        if call('ZCARD', line) > cap + 32 then trim(line, shape, clock - reach, cap) end
      end
      local found
      place, found = find(line, shape, at_text, arrival)
      itself = found and joined(found)
      before = place > 0 and call('ZRANGE', line, place - 1, place - 1)[1]
      fields = split(call('ZRANGE', line, -1, -1)[1], shape)
    end
    local result = {before or false, itself or false, in_order and itself and own[3] or fields and fields[3] or '0'}
    if not late then
      for frame = 0, frames - 1 do
        local since, wants = ARGV[asked + 2 * frame], ARGV[asked + 2 * frame + 1]
        local first = call('ZRANGE', line, since, '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
        result[#result + 1] = first or false
        if wants ~= '' and first and not is_lost(first) then
          local including = string.sub(wants, 1, 1) == 'i'
          -- Before very many others, what depends on each of them is not worked out.
          local far = not in_order and call('ZCARD', line) - place > LATE
          for _, text in ipairs(shape.texts) do
            if string.find(wants, '|' .. text[1] .. '|', 1, true) then
              local count = false
              if in_order then
                count = call('ZCOUNT', line .. ':' .. text[1], since, '+inf')
                if itself and not including and own[text[2]] ~= '' then
                  local sight = tonumber(own[text[2] + 1])
                  if not (sight and sight >= tonumber(since)) then count = count - 1 end
                end
              elseif not far then
                local finish = place + (including and itself and 1 or 0)
                count = distinct(line, shape, text[1], text[2], since, finish)
              end
              result[#result + 1] = count
            end
          end
          local asked_ranks = match(wants, '#(.*)$')
          if asked_ranks and far then
            for _ in string.gmatch(asked_ranks, ';') do result[#result + 1] = -1 end
          elseif asked_ranks then
            local later = {}
            if not in_order then
              later = all(call('ZRANGE', line, place + (including and itself and 1 or 0), -1), shape)
            elseif itself and not including then
              later = {own}
            end
            ranks(line, shape, since, format('%.0f', at - since), after(since, later), asked_ranks, result)
          end
          if string.find(wants, 'p', 1, true) == 1 or string.find(wants, 'ip', 1, true) == 1 then
            local finish = including and itself or before
            local size = finish and split(finish, shape)[3] - split(first, shape)[3] + 1 or 0
            result[#result + 1] = size > 0 and size <= look and call('ZRANGE', line, since, at_text, 'BYSCORE')
          end
        end
      end
    end
    answer[#answer + 1] = result
  end
  -- Until its commit is known of: a process that dies before takes nobody along who could take the event out again.
  if new then
    call('HSET', KEYS[4], id, cjson.encode(pending))
  else
    -- Of two that decide the same event the later one answers for it: it lives when the other one may have died.
    local held = call('HGET', KEYS[4], id)
    if held then
      held = cjson.decode(held)
      held[3] = ARGV[9]
      call('HSET', KEYS[4], id, cjson.encode(held))
    end
  end
  if arrival % 8 == 0 then sweep(clock) end
  return answer
end

-- KEYS as for observe. ARGV: forget, id, at, arrival ("" for whichever it had), who asks, up to
-- where it heard the news, and its own of the event ("" where only the pending event has them). Gives the news.
function operations.forget()
  local id, at = ARGV[2], ARGV[3]
  local told = ARGV[6] ~= '' and heard(KEYS[1], ARGV[5], ARGV[6])
  local arrival = call('HGET', KEYS[2], id)
  if not arrival or (ARGV[4] ~= '' and tonumber(ARGV[4]) ~= tonumber(arrival)) then
    -- It may be known beside the server all the same: a history that no line needs is not told here.
    if ARGV[4] ~= '' and ARGV[7] ~= '' then announce(KEYS[1], ARGV[5], 'forget', ARGV[4], ARGV[7]) end
    return told
  end
  local pending = call('HGET', KEYS[4], id)
  -- Another process has had it from the ledger meanwhile: it is committed.
  if ARGV[4] == '' and not pending then return told end
  local note = ARGV[7] == '' and pending and cjson.decode(pending)[4] or ARGV[7]
  if note ~= '' then announce(KEYS[1], ARGV[5], 'forget', arrival, note) end
  call('HDEL', KEYS[2], id)
  call('HDEL', KEYS[4], id)
  for touch = 5, #KEYS do
    local line, shape = KEYS[touch], shape_of(match(KEYS[touch], '%a*$'))
    if call('EXISTS', line) == 1 then
      local place, itself = find(line, shape, at, tonumber(arrival))
      if itself then
        local olds = all(call('ZRANGE', line, place, -1), shape)
        local news = {}
        for old = 2, #olds do news[old - 1] = olds[old] end
        lay(line, shape, place, olds, news)
        changed(line, shape, {itself}, true)
      end
    end
  end
  return told
end

-- KEYS: meta. ARGV: hear, who asks, the place up to which it heard the news. Gives the news.
function operations.hear()
  return heard(KEYS[1], ARGV[2], ARGV[3])
end

-- KEYS: meta. ARGV: tell, who, up to where it heard the news, arrival, note: of an event of the ledger that was added.
-- Gives the news.
function operations.tell()
  local told = heard(KEYS[1], ARGV[2], ARGV[3])
  announce(KEYS[1], ARGV[2], 'add', ARGV[4], ARGV[5])
  return told
end

-- Note events of one hour that the ledger has. KEYS: meta, ids, index, pending. ARGV: enter, lateness, longest, then
-- of each event its id, time and arrival. Gives the arrival that each has.
function operations.enter()
  local lateness, longest, given = tonumber(ARGV[2]), tonumber(ARGV[3]), {}
  local meta = call('HMGET', KEYS[1], 'clock', 'last')
  local clock, last = tonumber(meta[1]), tonumber(meta[2]) or -1
  for from = 4, #ARGV, 3 do
    local id, at, arrival = ARGV[from], tonumber(ARGV[from + 1]), tonumber(ARGV[from + 2])
    call('HSETNX', KEYS[2], id, format('%.0f', arrival))
    call('HDEL', KEYS[4], id)
    given[#given + 1] = call('HGET', KEYS[2], id)
    clock, last = math.max(clock or at, at), math.max(last, arrival)
    call('ZADD', KEYS[3], (floor(at / HOUR) + 1) * HOUR + longest + lateness, KEYS[2])
  end
  call('HSET', KEYS[1], 'clock', format('%.0f', clock), 'last', format('%.0f', last))
  return given
end

-- Put what a line has behind its whole history, which stands beside it, and give that its place.
local function replace(line, history, shape)
  if call('EXISTS', history) == 0 then return end
  local rows = all(call('ZRANGE', line, 0, -1), shape)
  if rows[1] and is_lost(rows[1][1]) then table.remove(rows, 1) end
  if #rows > 0 then merge(history, shape, rows) end
  call('RENAME', history, line)
  for _, text in ipairs(shape.texts) do
    call('UNLINK', line .. ':' .. text[1])
    if call('EXISTS', history .. ':' .. text[1]) == 1 then
      call('RENAME', history .. ':' .. text[1], line .. ':' .. text[1])
    end
  end
  if shape.has_ranks then
    for _, view in ipairs(call('HKEYS', line .. ':views')) do call('UNLINK', line .. ':' .. view) end
    call('UNLINK', line .. ':views')
  end
end

-- Add events of the ledger to one line. KEYS: meta, index, line. ARGV: fill, shape, reach, cap, how, then of each event
-- in order its arrival, time and values. How: "a" some that the line may lack; else a whole history, of which this is
-- the beginning ("b"), the end ("e"), both or neither.
function operations.fill()
  local line, shape, reach, cap, how = KEYS[3], shape_of(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
  local clock, rows, from = tonumber(call('HGET', KEYS[1], 'clock')), {}, 6
  while from <= #ARGV do
    local arrived, at = format('%016.0f', tonumber(ARGV[from])), ARGV[from + 1]
    local row
    row, from = own_of(shape, arrived, at, from + 2)
    if moment(row) >= clock - reach then rows[#rows + 1] = row end
  end
  if how == 'a' then
    for _, row in ipairs(rows) do
      local known = call('EXISTS', line) == 1 and select(2, find(line, shape, row[2], row[1]))
      if not known then merge(line, shape, {row}, LATE) end
    end
    trim(line, shape, clock - reach, cap)
  else
    local history = line .. '~'
    if string.find(how, 'b', 1, true) then
      call('UNLINK', history)
      for _, text in ipairs(shape.texts) do call('UNLINK', history .. ':' .. text[1]) end
    end
    if #rows > 0 then merge(history, shape, rows) end
    trim(history, shape, clock - reach, cap)
    if string.find(how, 'e', 1, true) then replace(line, history, shape) end
  end
  local newest = call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]
  if newest then call('ZADD', KEYS[2], newest + reach, line) end
  return 1
end

-- Let a tenant in that has no epoch because it is new. KEYS: control, meta. ARGV: admit, epoch, tenant. Gives whether
-- the store is still the one that has this epoch.
function operations.admit()
  if call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then return 0 end
  call('HSET', KEYS[2], 'epoch', ARGV[2])
  call('HSET', KEYS[1], 'tenant ' .. ARGV[3], '1')
  return 1
end

-- End a loading, unless the store lost its beginning. KEYS: control. ARGV: finish, token, then fields and values.
function operations.finish()
  if call('HGET', KEYS[1], 'loading') ~= ARGV[2] then return 0 end
  call('HDEL', KEYS[1], 'loading')
  for from = 3, #ARGV, 2 do call('HSET', KEYS[1], ARGV[from], ARGV[from + 1]) end
  return 1
end

redis.register_function('LIBRARY', function(keys, args)
  call, format, match, floor = redis.call, string.format, string.match, math.floor
  KEYS, ARGV = keys, args
  return operations[args[1]]()
end)
