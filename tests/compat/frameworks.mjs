// The official `ollama` package of npm against the server at OLLAMA_HOST. Run by test_frameworks.py.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const require = createRequire(join(process.env.CLIENTS_HOME, 'npm', 'x.js'))
const { Ollama } = await import(pathToFileURL(require.resolve('ollama')).href)
const ollama = new Ollama({ host: process.env.OLLAMA_HOST })
const TEXT = 'one\u2028two\u2029three\u0085a "quote" <b>&\u{1f999}!\r\n'
const messages = [{ role: 'user', content: 'hi' }]
const tool = (name) => ({ type: 'function', function: { name, description: 'x', parameters: { type: 'object', properties: {} } } })
const tools = [tool('get_weather'), tool('get_time')]

async function gather(parts, text) {
  let whole = ''
  for await (const part of parts) whole += text(part)
  return whole
}

const names = (await ollama.list()).models.map((model) => model.name)
assert(names.includes('guide:latest') && names.includes('parrot:latest'))
assert.deepEqual((await ollama.show({ model: 'parrot' })).capabilities, ['completion', 'tools'])
assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+$/)
assert.equal((await ollama.chat({ model: 'parrot', messages })).message.content, TEXT)
assert.equal(await gather(await ollama.chat({ model: 'parrot', messages, stream: true }), (p) => p.message.content), TEXT)
assert(await gather(await ollama.generate({ model: 'guide', prompt: 'hello', stream: true }), (p) => p.response))

const { message } = await ollama.chat({ model: 'parrot', messages, tools })
assert.deepEqual(message.tool_calls.map((call) => call.function.name), ['get_weather', 'get_time'])
assert.deepEqual(message.tool_calls[0].function.arguments, { city: 'Madrid', days: 3 })
const results = message.tool_calls.map((call) => ({ role: 'tool', content: 'sunny', tool_name: call.function.name }))
assert.equal((await ollama.chat({ model: 'parrot', messages: [...messages, message, ...results], tools })).message.content, 'It is sunny.')

assert.equal((await ollama.embed({ model: 'guide', input: ['a', 'b'] })).embeddings.length, 2)
const states = []
for await (const part of await ollama.create({ model: 'npm', from: 'parrot', system: 'S', stream: true })) states.push(part.status)
assert.equal(states.at(-1), 'success')
await ollama.copy({ source: 'npm', destination: 'npm2' })
await ollama.delete({ model: 'npm' })
await ollama.delete({ model: 'npm2' })
assert((await ollama.ps()).models.length > 0)
await assert.rejects(ollama.chat({ model: 'nobody', messages }), { name: 'ResponseError', status_code: 404 })

const end = (await ollama.show({ model: 'guide' })).model_info['tokenizer.ggml.eos_token_id']
const options = { logit_bias: { [end]: -100 }, num_predict: -1, temperature: 1 }
const endless = await ollama.generate({ model: 'guide', prompt: 'x', stream: true, options })
setTimeout(() => endless.abort(), 300)
await assert.rejects(gather(endless, (part) => part.response), { name: 'AbortError' })
console.log('ok')
