const at = id => document.getElementById(id), clamp = (x, low, high) => Math.min(Math.max(x, low), high)
function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text)
  const raw = atob(text), b = new Uint8Array(raw.length)
  for (let i = 0; i < b.length; i++) b[i] = raw.charCodeAt(i)
  return b
}
const inflate = (packed, kind) => new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream(kind))).arrayBuffer()
const colors = bytes(DATA.colors)  // 256 rows of red, green and blue
const percent = share => Math.round(100*share) + "%"
let entry, shown, turns = 0  // the image that is looked at; its maps: {layer: {strength, evidence, why}}; how often something was asked

// Elements; text is never read as HTML
function make(tag, text, more = {}) { return Object.assign(document.createElement(tag), { textContent: text }, more) }
function table(head, rows) {
  const row = (cells, tag) => { const r = make("tr", ""); r.append(...cells.map(c => c instanceof Node ? c : make(tag, c))); return r }
  const t = make("table", "")
  t.append(...(head.length ? [row(head.map(c => c ? make("th", c, { scope: "col" }) : make("td", "")), "th")] : []), ...rows.map(r => row(r, "td")))
  return t
}
function bar(share) {
  const cell = make("td", ""), b = make("span", "", { className: share < 0 ? "bar against" : "bar" })
  b.style.width = 8*Math.abs(share) + "rem"
  cell.append(b)
  return cell
}
function options(select, pairs) {
  const old = select.value
  select.replaceChildren(...pairs.map(([value, text]) => make("option", text, { value })))
  if (pairs.some(([value]) => value === old)) select.value = old
  select.disabled = pairs.length < 2
}

// A grid's cells at the pixels of a side, bilinear, as embcam's Frame has it: [cell, next cell, their weights]
function axis(n, [from, to], [first, last], side, cells) {
  return Array.from({ length: n }, (_, i) => {
    const pixel = i + .5, cell = (first + (pixel - from)/(to - from)*(last - first))/side*cells - .5
    const low = clamp(Math.floor(cell), 0, cells - 1), share = clamp(cell - low, 0, 1), seen = pixel >= from && pixel <= to
    return [low, Math.min(low + 1, cells - 1), seen ? 1 - share : 0, seen ? share : 0]
  })
}
function toImage(grid, [gh, gw], { image, size, shown, inside }) {
  const [h, w] = image, map = new Float32Array(h*w)
  const rows = axis(h, [shown[0], shown[2]], [inside[0], inside[2]], size[0], gh)
  const columns = axis(w, [shown[1], shown[3]], [inside[1], inside[3]], size[1], gw)
  rows.forEach(([a, b, p, q], y) => columns.forEach(([c, d, r, s], x) => {
    map[y*w + x] = p*(r*grid[a*gw + c] + s*grid[a*gw + d]) + q*(r*grid[b*gw + c] + s*grid[b*gw + d])
  }))
  return map
}
function heat(map) {  // the positive part over its largest value
  const most = map.reduce((a, b) => Math.max(a, b), 0)
  return most > 0 ? map.map(x => Math.max(x, 0)/most) : map.fill(0)
}
function combine(maps) {  // the mean of those that show something, over its largest value
  const parts = maps.filter(m => m.some(x => x > 0)), sum = new Float32Array(maps[0].length)
  for (const m of parts) m.forEach((x, i) => { sum[i] += x })
  return heat(sum)
}

// What embcam.drawing.overlay draws: the image nearly without its colours, below the map
function draw(canvas, { strength, evidence, why }) {
  const { width: w, height: h } = entry.pixels, source = entry.pixels.data, drawn = new ImageData(w, h)
  const alpha = at("opacity").value*Math.min(1, evidence/.05), least = +at("threshold").value
  for (let i = 0; i < w*h; i++) {
    const s = strength[i] < least ? 0 : strength[i], a = alpha*Math.sqrt(s), color = 3*Math.min(255, Math.floor(256*s))
    const grey = .65/3*(source[4*i] + source[4*i + 1] + source[4*i + 2])
    for (let c = 0; c < 3; c++) {
      const base = .35*source[4*i + c] + grey
      drawn.data[4*i + c] = Math.floor(base + a*(colors[color + c] - base) + .5)
    }
    drawn.data[4*i + 3] = 255
  }
  Object.assign(canvas, { width: w, height: h }).getContext("2d").putImageData(drawn, 0, 0)
}

// What was asked of this image
const asked = () => entry.questions.find(q => q.label === (at("class").value || entry.prediction) && (q.versus ?? "") === at("versus").value)
const step = () => asked().steps[at("top").value]
async function answer() {  // the maps of what is asked: {layer: {strength, evidence, why}}
  const [grids, { evidence, why }] = await entry.answer(asked(), step()), names = entry.layers.map(([name]) => name)
  const strengths = grids.map((grid, i) => heat(toImage(grid, entry.layers[i].slice(1), entry.frame)))
  const all = combine(strengths.filter((_, i) => !entry.left_out.includes(names[i])))
  return Object.fromEntries([["combined", all], ...names.map((name, i) => [name, strengths[i]])].map(([name, strength], i) =>
    [name, { strength, evidence: evidence[i], why: strength.some(x => x > 0) ? "" : why || "no positive relevance at this layer" }]))
}
async function stored(question, { at: place, depths, evidence, why }) {  // one byte for each cell, layer after layer
  entry.cells ??= new Uint8Array(await inflate(bytes(entry.grids), "deflate"))
  const value = depth => depth ? b => b < 128 ? (b - 128)/128*depth : (b - 128)/127 : b => b/255
  const grids = entry.layers.map(([, gh, gw], i) => Float32Array.from(entry.cells.subarray(place, place += gh*gw), value(depths?.[i])))
  return [grids, { evidence, why }]
}

const words = (name, m) => m.why ? `${name}: no evidence, ${m.why}` : `${name}: evidence ${m.evidence.toFixed(2)}`
function show() {  // everything that a slider changes
  const layer = at("layer").value in shown ? at("layer").value : "combined", m = shown[layer]
  draw(at("map"), m)
  at("said").textContent = words(layer, m)
  at("map").ariaLabel = `Map over ${entry.name}: ${words(layer, m)}`
  at("opaque").textContent = percent(at("opacity").value)
  at("least").textContent = percent(at("threshold").value)
  at("layers").replaceChildren(...Object.entries(shown).map(([name, one]) => {
    const button = make("button", "", { type: "button", ariaPressed: name === layer }), canvas = make("canvas", "")
    draw(canvas, one)
    button.append(canvas, make("span", words(name, one)))
    button.onclick = () => { at("layer").value = name; show(); [...at("layers").children].find(b => b.ariaPressed === "true").focus() }
    return button
  }))
}
async function ask() {  // another class, another number of features
  const turn = ++turns, question = asked()
  at("top").max = question.steps.length - 1
  at("top").disabled = question.steps.length < 2
  const { top, of } = step()
  at("kept").textContent = at("top").ariaValueText = top === of ? `all ${of}` : `the first ${top} of ${of}`
  at("ranking").replaceChildren(...rankingOf(question, top))
  at("map").ariaBusy = true
  const found = await answer()
  if (turn !== turns) return  // something else was asked meanwhile
  shown = found
  at("map").ariaBusy = null
  show()
}
function rankingOf({ heading, ranking, ranked_by }, top) {
  if (!ranking?.length) return []
  const most = Math.max(...ranking.map(([, weight]) => Math.abs(weight))) || 1
  const rows = ranking.slice(0, top).map(([name, weight, absent]) => [name, weight.toPrecision(3), bar(weight/most), absent ? "absent" : ""])
  const frame = make("div", "", { className: "wide" })
  frame.append(table(["feature", `weight (${ranked_by})`, "", ""], rows))
  return [make("h2", heading), frame]
}
function against() {  // what the chosen class can be compared with; the number of features that embcam would keep
  const label = at("class").value || entry.prediction, of = entry.questions.filter(q => q.label === label)
  options(at("versus"), of.map(q => [q.versus ?? "", q.versus ?? "all others"]))
  at("top").max = asked().steps.length - 1
  at("top").value = asked().steps.findIndex(s => s.own)
}
async function look(chosen, button) {  // at another image
  entry = chosen
  at("seen").hidden = false
  for (const b of at("images").children) b.ariaPressed = b === button
  entry.pixels ??= await pixelsOf(entry.jpeg)
  const { width, height } = entry.pixels
  Object.assign(at("plain"), { width, height, ariaLabel: `Image: ${entry.name}` }).getContext("2d").putImageData(entry.pixels, 0, 0)
  at("name").textContent = `${entry.name}: ${entry.summary}`
  at("notes").replaceChildren(...[...entry.marks, ...entry.notes].map(note => make("p", note, { className: "note" })))
  at("scores").replaceChildren(table([], entry.scores.map(([name, text, share]) => share === null ? [name, text] : [name, text, bar(share)])))
  const labels = [...new Set(entry.questions.map(q => q.label))]
  options(at("class"), [["", `the prediction: ${entry.prediction}`], ...labels.map(label => [label, label])])
  options(at("layer"), ["combined", ...entry.layers.map(([name]) => name)].map(name => [name, name]))
  against()
  await ask()
}
async function pixelsOf(jpeg) {
  const image = new Image()
  image.src = "data:image/jpeg;base64," + jpeg
  await image.decode()
  const context = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d")
  context.drawImage(image, 0, 0)
  return context.getImageData(0, 0, image.naturalWidth, image.naturalHeight)
}
function tile(one) {
  const button = make("button", "", { type: "button", ariaPressed: false })
  button.append(make("img", "", { src: "data:image/jpeg;base64," + one.jpeg, alt: "", loading: "lazy" }), make("span", `${one.name}: ${one.summary}`))
  button.append(...one.marks.map(mark => make("span", mark, { className: "mark" })))
  button.onclick = () => look(one, button)
  return button
}
function list() {
  const typed = at("words").value.toLowerCase().split(/\s+/)
  const found = DATA.entries.filter(e => typed.every(w => [e.name, e.summary, ...e.marks].join(" ").toLowerCase().includes(w)))
  at("words").parentElement.hidden = DATA.entries.length < 2
  at("count").textContent = `${found.length} of ${DATA.entries.length} images`
  at("images").replaceChildren(...found.map(tile))
  if (found.length) return look(found[0], at("images").firstChild)
}
at("knobs").onsubmit = event => event.preventDefault()
at("words").oninput = list
at("class").onchange = () => { against(); ask() }
at("versus").onchange = () => { against(); ask() }
at("top").oninput = ask
at("layer").onchange = at("opacity").oninput = at("threshold").oninput = show
at("save").onclick = () => at("map").toBlob(blob => {
  const name = [entry.name, at("class").value || entry.prediction, at("layer").value].join("-").replace(/[^\p{L}\p{N}_.-]+/gu, "-")
  make("a", "", { href: URL.createObjectURL(blob), download: name + ".png" }).click()
})
for (const one of DATA.entries) one.answer = stored
list()
