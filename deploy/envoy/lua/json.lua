-- JSON to Lua values and the parts that go back. Strict: a doubled key, a comma too many or a stray byte is an error
-- that says where it is. Arrays of whole numbers, which pictures are, are read without making a string of each number.

local byte, find, match, sub = string.byte, string.find, string.match, string.sub
local QUOTE, BACKSLASH, COMMA, COLON, MINUS, ZERO, NINE = 34, 92, 44, 58, 45, 48, 57
local OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT = 91, 93, 123, 125
local MOST_DEPTH = 16
local ESCAPES = {b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/"}
local WORDS = {["true"] = true, ["false"] = false}

local json = {}

json.null = setmetatable({}, {__tostring = function() return "null" end})
json.Array = {} -- the metatable of arrays; other tables are objects

local value

local function fail(at, what)
  error({status = 400, message = "the body is not JSON: " .. what .. " at byte " .. at})
end

local function skip(text, at)
  local head = byte(text, at)
  if head and head > 32 then
    return at
  end
  return find(text, "[^ \t\r\n]", at) or #text + 1
end

local function utf8(code)
  if code < 0x80 then
    return string.char(code)
  elseif code < 0x800 then
    return string.char(0xC0 + math.floor(code / 64), 0x80 + code % 64)
  elseif code < 0x10000 then
    return string.char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
  end
  return string.char(
    0xF0 + math.floor(code / 262144), 0x80 + math.floor(code / 4096) % 64, 0x80 + math.floor(code / 64) % 64,
    0x80 + code % 64
  )
end

local function escape(text, at)
  local plain = ESCAPES[sub(text, at + 1, at + 1)]
  if plain then
    return plain, at + 2
  end
  local code = tonumber(match(text, "^u(%x%x%x%x)", at + 1) or fail(at, "an unknown escape"), 16)
  if code < 0xD800 or code > 0xDFFF then
    return utf8(code), at + 6
  end
  local low = tonumber(match(text, "^\\u(%x%x%x%x)", at + 6) or "0", 16)
  if code > 0xDBFF or low < 0xDC00 or low > 0xDFFF then
    fail(at, "half of a surrogate pair")
  end
  return utf8(0x10000 + (code - 0xD800) * 1024 + low - 0xDC00), at + 12
end

local function text_of(text, at)
  local parts, start = {}, at + 1
  while true do
    local stop = find(text, '["\\%c]', start) or fail(at, "a string without an end")
    local mark = byte(text, stop)
    parts[#parts + 1] = sub(text, start, stop - 1)
    if mark == QUOTE then
      return table.concat(parts), stop + 1
    elseif mark ~= BACKSLASH and mark ~= 127 then
      fail(stop, "a control character in a string")
    elseif mark == 127 then
      parts[#parts + 1], start = "\127", stop + 1
    else
      parts[#parts + 1], start = escape(text, stop)
    end
  end
end

local function number(text, at)
  local sum, stop, digit = 0, at, byte(text, at)
  while digit and digit >= ZERO and digit <= NINE and stop - at < 15 do
    sum, stop = sum * 10 + digit - ZERO, stop + 1
    digit = byte(text, stop)
  end
  local more = digit == 46 or digit == 69 or digit == 101 or (digit and digit >= ZERO and digit <= NINE)
  if stop > at and not more and (stop == at + 1 or byte(text, at) ~= ZERO) then
    return sum, stop
  end
  local whole = match(text, "^-?[1-9]%d*", at) or match(text, "^-?0", at) or fail(at, "no value")
  stop = at + #whole
  stop = stop + #(match(text, "^%.%d+", stop) or "")
  stop = stop + #(match(text, "^[eE][+-]?%d+", stop) or "")
  return tonumber(sub(text, at, stop - 1)), stop
end

local function array(text, at, depth)
  local items, count = setmetatable({}, json.Array), 0
  at = skip(text, at + 1)
  if byte(text, at) == CLOSE_ARRAY then
    return items, at + 1
  end
  while true do
    count = count + 1
    local head = byte(text, at)
    if head and head >= ZERO and head <= NINE then
      items[count], at = number(text, at)
    else
      items[count], at = value(text, at, depth)
    end
    at = skip(text, at)
    local mark = byte(text, at)
    if mark == CLOSE_ARRAY then
      return items, at + 1
    elseif mark ~= COMMA then
      fail(at, "neither , nor ]")
    end
    at = skip(text, at + 1)
  end
end

local function object(text, at, depth)
  local fields = {}
  at = skip(text, at + 1)
  if byte(text, at) == CLOSE_OBJECT then
    return fields, at + 1
  end
  while true do
    if byte(text, at) ~= QUOTE then
      fail(at, "no key in quotation marks")
    end
    local start, key = at, nil
    key, at = text_of(text, at)
    if fields[key] ~= nil then
      fail(start, "a key that was there before")
    end
    at = skip(text, at)
    if byte(text, at) ~= COLON then
      fail(at, "no : behind a key")
    end
    fields[key], at = value(text, skip(text, at + 1), depth)
    at = skip(text, at)
    local mark = byte(text, at)
    if mark == CLOSE_OBJECT then
      return fields, at + 1
    elseif mark ~= COMMA then
      fail(at, "neither , nor }")
    end
    at = skip(text, at + 1)
  end
end

function value(text, at, depth)
  if depth == 0 then
    fail(at, "more than " .. MOST_DEPTH .. " levels")
  end
  local head = byte(text, at)
  if head == QUOTE then
    return text_of(text, at)
  elseif head == OPEN_OBJECT then
    return object(text, at, depth - 1)
  elseif head == OPEN_ARRAY then
    return array(text, at, depth - 1)
  elseif head and (head == MINUS or (head >= ZERO and head <= NINE)) then
    return number(text, at)
  end
  local word = match(text, "^%l+", at)
  if word == "null" then
    return json.null, at + 4
  elseif WORDS[word] == nil then
    fail(at, "no value")
  end
  return WORDS[word], at + #word
end

-- The value of a whole text. Raises {status, message}.
function json.decode(text)
  local result, at = value(text, skip(text, 1), MOST_DEPTH)
  at = skip(text, at)
  if at <= #text then
    fail(at, "something behind the end")
  end
  return result
end

function json.is_array(candidate)
  return getmetatable(candidate) == json.Array
end

function json.is_object(candidate)
  return type(candidate) == "table" and getmetatable(candidate) == nil
end

-- A string as JSON has it.
function json.quote(text)
  local escaped = text:gsub('[%c"\\]', function(character)
    return string.format("\\u%04x", byte(character))
  end)
  return '"' .. escaped .. '"'
end

-- A caller's text as it may stand in a message: cut, and without control characters.
function json.shown(text)
  return json.quote(#text > 64 and sub(text, 1, 64) .. "…" or text)
end

return json
