-- The Open Inference Protocol's REST form (/v2) over its gRPC form: paths, JSON and the binary tensor data extension.

local json = require("json")
local protobuf = require("protobuf")
local tensors = require("tensors")

local open_inference = {}

local function refuse(message, status)
  error({status = status or 400, message = message})
end

local function only(object, known, where)
  for key in pairs(object) do
    if not known[key] then
      refuse(where .. " has the field or parameter " .. json.shown(key) .. ", which is not supported here")
    end
  end
end

local function text(object, key, where)
  local found = object[key]
  if found ~= nil and type(found) ~= "string" then
    refuse(where .. ": " .. key .. " must be a string")
  end
  return found
end

local function parameters(object, known, where)
  local found = object.parameters
  if found == nil then
    return {}
  elseif not json.is_object(found) then
    refuse(where .. ": parameters must be an object")
  end
  only(found, known, where .. ".parameters")
  for key, kind in pairs(known) do
    if found[key] ~= nil and type(found[key]) ~= kind then
      refuse(where .. ".parameters: " .. key .. " must be a " .. kind)
    end
  end
  return found
end

local function objects(request, key)
  local found = request[key]
  if found == nil then
    return {}
  elseif not json.is_array(found) then
    refuse(key .. " must be an array")
  end
  for _, object in ipairs(found) do
    if not json.is_object(object) then
      refuse(key .. " must be an array of objects")
    end
  end
  return found
end

local INPUT_FIELDS = {name = true, shape = true, datatype = true, parameters = true, data = true}

-- An input as message, its values as bytes, and where the binary data of the next one begins.
local function input(tensor, binary, at)
  only(tensor, INPUT_FIELDS, "an input")
  local name = text(tensor, "name", "an input") or refuse("an input has no name")
  local datatype = text(tensor, "datatype", "an input") or refuse("an input has no datatype")
  local shape = tensor.shape
  if not json.is_array(shape) or #shape == 0 then
    refuse("an input's shape must be an array of numbers")
  end
  for _, size in ipairs(shape) do
    if type(size) ~= "number" or size < 0 or size > 2 ^ 31 or size ~= math.floor(size) then
      refuse("an input's shape must be an array of whole numbers from 0")
    end
  end
  local size, values = parameters(tensor, {binary_data_size = "number"}, "an input").binary_data_size, nil
  if size == nil then
    if not json.is_array(tensor.data) then
      refuse("an input has neither data, an array of numbers, nor binary_data_size")
    end
    values = tensors.pack(json.shown(name), datatype, shape, tensor.data)
  elseif tensor.data ~= nil then
    refuse("an input has both data and binary_data_size")
  else
    if size < 0 or size ~= math.floor(size) or at + size > #binary then
      refuse("binary_data_size is more than what follows the JSON")
    end
    values, at = binary:sub(at + 1, at + size), at + size
  end
  local message = protobuf.text(1, name) .. protobuf.text(2, datatype) .. protobuf.numbers(3, shape)
  return message, values, at
end

local OUTPUT_FIELDS = {name = true, parameters = true}

-- The requested outputs as messages, and the names of those that are wanted as binary data.
local function outputs(request, all_binary)
  local messages, binary = {}, {}
  for index, output in ipairs(objects(request, "outputs")) do
    only(output, OUTPUT_FIELDS, "an output")
    local name = text(output, "name", "an output") or refuse("an output has no name")
    if output.parameters ~= nil and json.is_object(output.parameters) and output.parameters.classification ~= nil then
      refuse("classification is not supported: ask for the output probabilities and sort it")
    end
    local wanted = parameters(output, {binary_data = "boolean"}, "an output").binary_data
    if wanted or (wanted == nil and all_binary) then
      binary[#binary + 1] = name
    end
    messages[index] = protobuf.bytes(6, protobuf.text(1, name))
  end
  return table.concat(messages), #messages == 0 and all_binary and "*" or table.concat(binary, ",")
end

local REQUEST_FIELDS = {
  id = true, model_name = true, model_version = true, parameters = true, inputs = true, outputs = true,
}

-- ModelInferRequest of a body, and the names of the outputs that are wanted as binary data.
local function infer(name, version, body, json_length)
  local binary = ""
  if json_length then
    local length = tonumber(json_length:match("^%d+$"))
    if not length or length > #body then
      refuse("inference-header-content-length must be the number of bytes of JSON at the beginning of the body")
    end
    body, binary = body:sub(1, length), body:sub(length + 1)
  end
  local request = json.decode(body)
  if not json.is_object(request) then
    refuse("the body must be a JSON object")
  end
  only(request, REQUEST_FIELDS, "the request")
  -- Clients repeat the path's here.
  local model_name = text(request, "model_name", "the request")
  if model_name and model_name ~= "" and model_name ~= name then
    refuse("model_name " .. json.shown(model_name) .. " is another than the path's " .. json.shown(name))
  end
  local model_version = text(request, "model_version", "the request")
  if model_version and model_version ~= "" and model_version ~= version then
    refuse("model_version " .. json.shown(model_version) .. " is another than the path's " .. json.shown(version))
  end
  local id = text(request, "id", "the request") or ""
  local all_binary = parameters(request, {binary_data_output = "boolean"}, "the request").binary_data_output
  local parts, values, at = {}, {}, 0
  for index, tensor in ipairs(objects(request, "inputs")) do
    local message, content
    message, content, at = input(tensor, binary, at)
    parts[index], values[index] = protobuf.bytes(5, message), protobuf.bytes(7, content)
  end
  if at ~= #binary then
    refuse(#binary - at .. " bytes follow that belong to no input's binary_data_size")
  end
  local wanted, binary_outputs = outputs(request, all_binary)
  return protobuf.text(1, name) .. protobuf.text(2, version) .. protobuf.text(3, id) .. table.concat(parts) .. wanted
    .. table.concat(values), binary_outputs
end

local function decoded(segment)
  return (segment:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local FIXED = {
  ["/v2"] = "ServerMetadata", ["/v2/"] = "ServerMetadata",
  ["/v2/health/live"] = "ServerLive", ["/v2/health/ready"] = "ServerReady",
}
local MODEL_METHODS = {[""] = "ModelMetadata", ["/ready"] = "ModelReady", ["/infer"] = "ModelInfer"}

-- The gRPC method of a path, the model's name and its version, "" for none; nil for a path that is not served.
function open_inference.route(path)
  if FIXED[path] then
    return FIXED[path], "", ""
  end
  local name, version, rest = path:match("^/v2/models/([^/]+)/versions/([^/]+)(.*)$")
  if not name then
    version, name, rest = "", path:match("^/v2/models/([^/]+)(.*)$")
  end
  return MODEL_METHODS[rest], decoded(name or ""), decoded(version)
end

-- The message for a call, and the names of the outputs that are wanted as binary data. Raises {status, message}.
function open_inference.request(method, name, version, body, json_length)
  if method == "ModelInfer" then
    return infer(name, version, body, json_length)
  elseif body ~= "" then
    refuse("this path takes no body")
  end
  return protobuf.text(1, name) .. protobuf.text(2, version), ""
end

local function first(fields, field)
  return (fields[field] or {})[1] or ""
end

-- A list of strings in JSON.
local function strings(list)
  local quoted = {}
  for index, entry in ipairs(list or {}) do
    quoted[index] = json.quote(entry)
  end
  return "[" .. table.concat(quoted, ",") .. "]"
end

-- The members that all tensors have, without the braces.
local function tensor(fields)
  local shape = table.concat(protobuf.unpack(first(fields, 3)), ",")
  return string.format(
    '"name":%s,"datatype":%s,"shape":[%s]', json.quote(first(fields, 1)), json.quote(first(fields, 2)), shape
  )
end

local function model_metadata(fields)
  local lists = {}
  for field = 4, 5 do
    local entries = {}
    for index, content in ipairs(fields[field] or {}) do
      entries[index] = "{" .. tensor(protobuf.read(content)) .. "}"
    end
    lists[field] = "[" .. table.concat(entries, ",") .. "]"
  end
  return string.format(
    '{"name":%s,"versions":%s,"platform":%s,"inputs":%s,"outputs":%s}',
    json.quote(first(fields, 1)), strings(fields[2]), json.quote(first(fields, 3)), lists[4], lists[5]
  )
end

local function inferred(fields, binary_outputs)
  local wanted, entries, tail = {}, {}, {}
  for name in binary_outputs:gmatch("[^,]+") do
    wanted[name] = true
  end
  for index, content in ipairs(fields[5] or {}) do
    local output, bytes = protobuf.read(content), fields[6][index]
    local form = '{%s,"data":%s}'
    local data
    if wanted["*"] or wanted[first(output, 1)] then
      form, data = '{%s,"parameters":{"binary_data_size":%s}}', tostring(#bytes)
      tail[#tail + 1] = bytes
    else
      data = tensors.print(first(output, 2), bytes)
    end
    entries[index] = string.format(form, tensor(output), data)
  end
  local id = first(fields, 3)
  local head = string.format(
    '{"model_name":%s,"model_version":%s,%s"outputs":[%s]}', json.quote(first(fields, 1)),
    json.quote(first(fields, 2)), id == "" and "" or '"id":' .. json.quote(id) .. ",", table.concat(entries, ",")
  )
  return 200, head, table.concat(tail)
end

-- HTTP status, JSON, and the binary data behind it, "" for none, of a message that the server answered with.
function open_inference.answer(method, name, message, binary_outputs)
  local fields = protobuf.read(message)
  if method == "ModelInfer" then
    return inferred(fields, binary_outputs)
  elseif method == "ModelMetadata" then
    return 200, model_metadata(fields), ""
  elseif method == "ServerMetadata" then
    -- Of the REST form; the gRPC form's extensions have no paths here.
    local head = string.format('{"name":%s,"version":%s,', json.quote(first(fields, 1)), json.quote(first(fields, 2)))
    return 200, head .. '"extensions":["binary_tensor_data"]}', ""
  end
  -- The protocol says 200 for yes and 4xx for no, because clients look at the status alone.
  local yes = (fields[1] or {})[1] == 1
  local status = yes and 200 or 400
  if method == "ModelReady" then
    return status, string.format('{"name":%s,"ready":%s}', json.quote(name), tostring(yes)), ""
  end
  return status, string.format('{"%s":%s}', method == "ServerLive" and "live" or "ready", tostring(yes)), ""
end

return open_inference
