// An image that somebody brings: prepared as embcam's Preparation does it with Pillow, to the bit, and explained by the graph
const NETWORK = {{ network|tojson }}
const say = text => { at("state").textContent = text }
let ort, session, before = Promise.resolve()

async function unpack(id) {
  const packed = bytes(at(id).textContent)
  at(id).remove()
  return inflate(packed, "gzip")
}
function joined(planes) {  // the first bytes of all numbers of four, then the second ones, and so on: side by side again
  const from = new Uint8Array(planes), to = new Uint8Array(from.length)
  for (let plane = 0, i = 0; plane < 4; plane++) for (let j = plane; j < to.length; j += 4) to[j] = from[i++]
  return to
}
async function start() {
  const [bundle, wasm, graph] = await Promise.all(["bundle", "wasm", "graph"].map(unpack))
  ort = await import(URL.createObjectURL(new Blob([bundle], { type: "text/javascript" })))
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: wasm })
  session = await ort.InferenceSession.create(joined(graph), { executionProviders: ["wasm"] })
  at("file").disabled = false
  say(altered() ? "This browser alters images that a page reads (a privacy setting): predictions would be wrong." :
    `Ready after ${(performance.now()/1000).toFixed(1)} s. Images do not leave this page.`)
}
function altered() {  // whether what is drawn is not what is read
  const ramp = new ImageData(Uint8ClampedArray.from({ length: 4096 }, (_, i) => i % 4 === 3 ? 255 : i*37 % 256), 32, 32)
  const context = new OffscreenCanvas(32, 32).getContext("2d")
  context.putImageData(ramp, 0, 0)
  return context.getImageData(0, 0, 32, 32).data.some((b, i) => b !== ramp.data[i])
}

// Pillow's filters: how far they reach, and their weight
const FILTERS = {
  bilinear: [1, x => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, x => (x = Math.abs(x)) < 1 ? (1.5*x - 2.5)*x*x + 1 : x < 2 ? (((x - 5)*x + 8)*x - 4)*-.5 : 0],
  lanczos: [3, x => Math.abs(x) < 3 ? sinc(x)*sinc(x/3) : 0]
}
const sinc = x => x === 0 ? 1 : Math.sin(x*Math.PI)/(x*Math.PI)
function kernel(n, from, to, m, [reach, weight]) {  // of each of m pixels: the first of n that count, and their weights in fixed point
  const scale = (to - from)/m, wide = Math.max(scale, 1)
  return Array.from({ length: m }, (_, i) => {
    const centre = from + (i + .5)*scale
    const first = Math.max(0, Math.trunc(centre - reach*wide + .5)), last = Math.min(n, Math.trunc(centre + reach*wide + .5))
    const all = Array.from({ length: last - first }, (_, k) => weight((k + first - centre + .5)*(1/wide)))
    const sum = all.reduce((a, b) => a + b, 0)
    return [first, all.map(w => Math.trunc(w/sum*2**22 + (w < 0 ? -.5 : .5)))]
  })
}
function resample(source, across, down, stride, kernels) {  // along one axis: `stride` from pixel to pixel, `across` from line to line
  const out = new Uint8ClampedArray(kernels.length*down*4)
  kernels.forEach(([first, weights], i) => {
    for (let line = 0; line < down; line++) for (let c = 0; c < 3; c++) {
      let sum = 2**21, at = line*across + first*stride + c
      for (const w of weights) { sum += source[at]*w; at += stride }
      out[(i*down + line)*4 + c] = sum >> 22
    }
  })
  return out  // turned: the axis that was resampled comes first
}
function resize({ data, width: w, height: h }, [top, left, bottom, right], H, W, filter) {  // pixels; from row to row; from column to column
  const columns = kernel(w, left, right, W, filter), rows = kernel(h, top, bottom, H, filter)
  if (NETWORK.tall_first && h - H > Math.max(0, 2*(w - W)))  // as Pillow does from version 13 on
    return [resample(resample(data, 4, w, 4*w, rows), 4*w, H, 4, columns), 4, 4*H]
  return [resample(resample(data, 4*w, h, 4, columns), 4*h, W, 4, rows), 4*W, 4]
}

const round = x => { const r = Math.round(x); return r - x === .5 && r % 2 ? r - 1 : r }  // halves to even, as Python does
function place(h, w, { size, resize, crop }) {  // how an image lies in the network's input: boxes are top, left, bottom, right
  const all = { image: [h, w], size: [size, size], shown: [0, 0, h, w], inside: [0, 0, size, size] }
  if (resize === "squash") return all
  if (resize === "crop") {
    const side = Math.min(h, w)*crop, top = (h - side)/2, left = (w - side)/2
    return { ...all, shown: [top, left, top + side, left + side] }
  }
  const [ih, iw] = [h, w].map(side => Math.max(1, round(size*side/Math.max(h, w))))
  const top = Math.floor((size - ih)/2), left = Math.floor((size - iw)/2)
  return { ...all, inside: [top, left, top + ih, left + iw] }
}
function prepare(pixels, how) {  // the network's input, where padding is zero, and how the image lies in it
  const { data, width, height } = pixels, { size, channels, mean, std } = how, f = Math.fround
  const frame = place(height, width, how), [top, left, bottom, right] = frame.inside
  if (channels === 1) for (let i = 0; i < data.length; i += 4) data[i] = data[i]*19595 + data[i + 1]*38470 + data[i + 2]*7471 + 32768 >> 16
  const [view, down, across] = resize(pixels, frame.shown, bottom - top, right - left, FILTERS[how.interpolation]), x = new Float32Array(channels*size*size)
  for (let c = 0; c < channels; c++) {
    const [m, s] = [mean, std].map(values => f(values[c % values.length]))
    const table = Float32Array.from({ length: 256 }, (_, b) => f(f(f(b/255) - m)/s))
    for (let row = top; row < bottom; row++) for (let column = left; column < right; column++)
      x[(c*size + row)*size + column] = table[view[(row - top)*down + (column - left)*across + c]]
  }
  return [x, frame]
}

function run(x, asked) {  // one after the other
  const { size, channels } = NETWORK.preparation
  const feeds = { image: new ort.Tensor("float32", x, [1, channels, size, size]), asked: new ort.Tensor("int64", [BigInt(asked)], [1]) }
  return before = before.catch(() => {}).then(() => session.run(feeds))
}
async function computed({ label }) {  // the maps of a class, made when it is first asked for
  const made = entry.made[label] ??= await run(entry.x, NETWORK.classes.indexOf(label)), evidence = [...made.evidence.data]
  return [NETWORK.layers.map(layer => made[layer.map].data), { evidence, why: NETWORK.nowhere }]
}
function scaled(pixels, canvas) {  // what is shown: at most 512 pixels
  const most = Math.max(pixels.width, pixels.height), [w, h] = [pixels.width, pixels.height].map(n => Math.max(1, Math.round(n*Math.min(1, 512/most))))
  const small = new OffscreenCanvas(w, h).getContext("2d")
  small.drawImage(canvas, 0, 0, w, h)
  return small.getImageData(0, 0, w, h)
}
async function read(file) {  // its pixels, over white
  const start = new DataView(await file.slice(0, 26).arrayBuffer())
  if (start.byteLength > 25 && start.getUint32(0) === 0x89504e47 && start.getUint8(24) === 16)
    throw new Error(`${file.name} has 16 bits a channel, of which a browser reads 8: predict it with embcam predict.`)
  const image = await createImageBitmap(file).catch(() => { throw new Error(`${file.name} cannot be read by this browser: save it as PNG or JPEG.`) })
  const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d", { willReadFrequently: true })
  context.fillStyle = "#fff"
  context.fillRect(0, 0, image.width, image.height)
  context.drawImage(image, 0, 0)
  return [context.getImageData(0, 0, image.width, image.height), canvas]
}
async function take(file) {
  say(`${file.name} …`)
  const begin = performance.now(), [pixels, canvas] = await read(file), small = scaled(pixels, canvas), [x, frame] = prepare(pixels, NETWORK.preparation)
  const made = await run(x, -1), scores = [...made.scores.data], k = Number(made.predicted.data[0]), prediction = NETWORK.classes[k]
  const share = percent(scores[k]) + (NETWORK.scores === "probability" ? "" : ` of ${NETWORK.scores}s`)
  const ratio = [small.height/pixels.height, small.width/pixels.width]
  const one = {
    name: file.name, prediction, summary: `${prediction} (${share})`, marks: [], notes: NETWORK.notes, answer: computed, pixels: small, x,
    scores: NETWORK.classes.map((c, i) => [c, (100*scores[i]).toFixed(1) + "%", scores[i]]), made: { [prediction]: made },
    frame: { ...frame, image: [small.height, small.width], shown: frame.shown.map((edge, i) => edge*ratio[i % 2]) },
    layers: NETWORK.layers.map(layer => [layer.name, ...layer.grid]), left_out: NETWORK.left_out, jpeg: await jpegOf(small),
    questions: NETWORK.classes.map(label => ({ label, steps: [{ top: NETWORK.kept, of: NETWORK.ranked, own: true }] }))
  }
  DATA.entries.unshift(one)
  at("words").value = ""
  await list()
  say(`${file.name}: ${one.summary}, in ${((performance.now() - begin)/1000).toFixed(1)} s`)
}
async function jpegOf(pixels) {
  const canvas = make("canvas", "", { width: pixels.width, height: pixels.height })
  canvas.getContext("2d").putImageData(pixels, 0, 0)
  return canvas.toDataURL("image/jpeg").split(",")[1]
}
async function takeAll(files) { for (const file of files) await take(file).catch(error => say(error.message)) }
at("file").onchange = () => takeAll(at("file").files)
addEventListener("dragover", event => event.preventDefault())
addEventListener("drop", event => { event.preventDefault(); if (session) takeAll(event.dataTransfer.files) })
at("licence").ontoggle = async () => { if (at("notices")) at("terms").textContent = new TextDecoder().decode(await unpack("notices")) }
start().catch(error => say(`The network cannot run here: ${error.message}`))
