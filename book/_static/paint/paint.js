// Paint on a part, and exported networks judge it in the page: gainbook/render/paint.py writes the
// data. Runtime and networks come as text in scripts, because a page opened from a disk may not
// fetch files.
(() => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const wait = (name) =>
    new Promise((done) => {
      const look = () => (window[name] ? done(window[name]) : setTimeout(look, 50));
      look();
    });

  async function unzip(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  async function loadRuntime() {
    const { module, wasm } = await wait("paintRuntime");
    const code = new Blob([await unzip(module)], { type: "text/javascript" });
    const ort = await import(URL.createObjectURL(code));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await unzip(wasm);
    return ort;
  }

  async function pixelsOf(png, size) {
    const blob = new Blob([bytes(png)], { type: "image/png" });
    const picture = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    const canvas = new OffscreenCanvas(size, size);
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    const rgba = context.getImageData(0, 0, size, size).data;
    const planes = new Float32Array(3 * size * size);
    for (let i = 0; i < size * size; i++)
      for (let c = 0; c < 3; c++) planes[c * size * size + i] = rgba[4 * i + c];
    return planes;
  }

  // Coverage of a brush at a distance from its path, and its change of reflectance by channel.
  const hard = (distance, radius) => Math.min(1, Math.max(0, radius + 0.5 - distance));
  const soft = (distance, radius) => Math.min(1, Math.max(0, 3 * (1 - distance / radius)));
  const BRUSHES = {
    scratch: { radius: 1, cover: hard, change: [0.5, 0.5, 0.5] },
    crack: { radius: 0.9, cover: hard, change: [-0.6, -0.6, -0.6] },
    stain: { radius: 11, cover: soft, change: [-0.3, -0.35, -0.42] },
    pore: { radius: 4, cover: hard, change: [-0.65, -0.65, -0.65] },
    "harmless mark": { stamp: true, change: [-0.6, -0.44, -0.12] },
    "take away": { radius: 6, cover: hard, heal: true },
  };
  // The printed code 012, as on the synthetic parts.
  const CODE = ["11100100111", "10101100001", "10100100111", "10100100100", "11101110111"];

  class Painting {
    constructor(size) {
      this.size = size;
      this.undone = [];
    }

    show(base, clean) {
      [this.base, this.clean] = [base, clean];
      this.clear();
    }

    clear() {
      const count = this.size * this.size;
      this.factor = new Float32Array(3 * count).fill(1);
      this.healed = new Float32Array(count);
      this.undone = [];
    }

    begin(brush) {
      this.undone.push([this.factor.slice(), this.healed.slice()]);
      if (this.undone.length > 20) this.undone.shift();
      [this.brush, this.covered] = [brush, new Float32Array(this.size * this.size)];
    }

    undo() {
      if (this.undone.length) [this.factor, this.healed] = this.undone.pop();
    }

    line(from, to) {
      if (this.brush.stamp) return this.stamp(to);
      const steps = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
      for (let step = 0; step <= steps; step++) {
        this.dab([0, 1].map((k) => from[k] + ((to[k] - from[k]) * step) / steps));
      }
    }

    dab([x, y]) {
      const { radius, cover } = this.brush;
      const reach = Math.ceil(radius + 1);
      for (let row = Math.round(y) - reach; row <= Math.round(y) + reach; row++)
        for (let column = Math.round(x) - reach; column <= Math.round(x) + reach; column++)
          this.cover(row, column, cover(Math.hypot(column - x, row - y), radius));
    }

    stamp([x, y]) {
      const dot = Math.max(1, Math.round(this.size / 64));
      const [top, left] = [Math.round(y) - 2 * dot, Math.round(x) - 5 * dot];
      CODE.forEach((line, r) =>
        [...line].forEach((bit, c) => {
          for (let k = 0; k < dot * dot; k++)
            if (bit === "1")
              this.cover(top + r * dot + Math.floor(k / dot), left + c * dot + (k % dot), 1);
        })
      );
    }

    // A stroke covers a pixel by the largest coverage along its path, not by the sum.
    cover(row, column, value) {
      const { size, brush } = this;
      const at = row * size + column;
      if (row < 0 || column < 0 || row >= size || column >= size || value <= this.covered[at])
        return;
      this.covered[at] = value;
      const [factor, healed] = this.undone[this.undone.length - 1];
      if (brush.heal) this.healed[at] = Math.max(healed[at], value);
      for (let c = 0; c < 3; c++) {
        const k = c * size * size + at;
        this.factor[k] = brush.heal
          ? factor[k] + (1 - factor[k]) * value
          : factor[k] * (1 + brush.change[c] * value);
      }
    }

    pixels() {
      const count = this.size * this.size;
      const result = new Uint8Array(3 * count);
      for (let k = 0; k < result.length; k++) {
        const healed = this.healed[k % count];
        let surface = this.base[k] * (1 - healed) + this.clean[k] * healed;
        if (this.factor[k] > 1) surface = Math.max(surface, 60); // a scratch shows on black, too
        result[k] = Math.min(255, Math.floor(surface * this.factor[k] + 0.5));
      }
      return result;
    }
  }

  function draw(canvas, size, colour) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      image.data.set(colour(i), 4 * i);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  class Page {
    constructor(root, data) {
      Object.assign(this, { root, data, size: data.size, painting: new Painting(data.size) });
      this.training = data.trainings[0];
      this.cursor = [data.size / 2, data.size / 2];
    }

    async start() {
      const ort = await loadRuntime();
      const files = await wait("paintNetworks");
      this.ort = ort;
      this.sessions = {};
      for (const { id } of this.data.networks)
        this.sessions[id] = await ort.InferenceSession.create(bytes(files[id]), {
          executionProviders: ["wasm"],
        });
      this.pictures = [];
      for (const { png, clean } of this.data.parts) {
        const base = await pixelsOf(png, this.size);
        this.pictures.push([base, clean ? await pixelsOf(clean, this.size) : base]);
      }
      this.build();
      this.choosePart(0);
      this.root.dataset.state = "ready";
    }

    build() {
      const { data, size } = this;
      const canvas = element("canvas", { width: size, height: size, tabIndex: 0 });
      canvas.className = "paint-part";
      canvas.setAttribute("role", "application");
      canvas.setAttribute(
        "aria-label",
        "part to paint on: arrow keys move the brush, space held down paints"
      );
      this.canvas = canvas;
      this.ring = element("span", { className: "paint-ring", hidden: true });
      this.part = element("select", { className: "paint-choice" });
      data.parts.forEach(({ name }, k) => this.part.append(element("option", { value: k }, name)));
      this.part.onchange = () => this.choosePart(Number(this.part.value));
      this.brush = element("select", { className: "paint-choice" });
      for (const name of Object.keys(BRUSHES)) this.brush.append(element("option", {}, name));
      this.learned = element("select", { className: "paint-choice" });
      for (const one of data.trainings) this.learned.append(element("option", {}, one));
      this.learned.onchange = () => this.train(this.learned.value);
      const button = (text, onclick) => element("button", { type: "button", onclick }, text);
      const buttons = [
        button("Undo", () => (this.painting.undo(), this.changed())),
        button("Clear", () => (this.painting.clear(), this.changed())),
      ];
      if (data.trap) buttons.push(button("Show the trap", () => this.trap()));
      buttons.push(button("Compare with Python", () => this.check()));
      const labelled = (text, control) => element("label", {}, text, control);
      const controls = [labelled("part ", this.part), labelled("brush ", this.brush)];
      if (data.trainings.length > 1) controls.push(labelled("in training ", this.learned));
      this.spoken = element("p", { className: "paint-spoken" });
      this.spoken.setAttribute("aria-live", "polite");
      this.seconds = element("p", { className: "paint-time" });
      this.judges = element("div", { className: "paint-judges" });
      const place = element("div", { className: "paint-place" }, canvas, this.ring);
      this.root.replaceChildren(
        element("div", { className: "paint-controls" }, ...controls, ...buttons),
        element("div", { className: "paint-row" }, place, this.judges),
        this.spoken,
        this.seconds
      );
      this.listen();
      this.showNetworks();
    }

    showNetworks() {
      this.panels = {};
      this.judges.replaceChildren();
      for (const network of this.shown()) {
        const verdict = element("p", { className: "paint-verdict" });
        const maps = {};
        const figures = network.maps.map((name) => {
          const map = element("canvas", { width: this.size, height: this.size });
          map.setAttribute("role", "img");
          maps[name] = map;
          return element("figure", {}, map, element("figcaption", {}, name));
        });
        const box = element("div", { className: "paint-judge" }, verdict, ...figures);
        this.judges.append(box);
        this.panels[network.id] = { verdict, maps, box };
      }
    }

    shown() {
      return this.data.networks.filter((one) => one.training === this.training);
    }

    listen() {
      const { canvas } = this;
      const at = (event) => {
        const box = canvas.getBoundingClientRect();
        return [
          ((event.clientX - box.left) / box.width) * this.size - 0.5,
          ((event.clientY - box.top) / box.height) * this.size - 0.5,
        ];
      };
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.press(at(event));
        event.preventDefault();
        canvas.focus({ focusVisible: false });
      });
      canvas.addEventListener("pointermove", (event) => {
        if (this.down) for (const e of event.getCoalescedEvents?.() ?? [event]) this.move(at(e));
      });
      for (const name of ["pointerup", "pointercancel"])
        canvas.addEventListener(name, () => (this.down = null));
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      canvas.addEventListener("keydown", (event) => {
        const step = steps[event.key];
        if (step) {
          const by = event.shiftKey ? 1 : 4;
          const to = this.cursor.map((v, k) => Math.min(this.size - 1, Math.max(0, v + by * step[k])));
          if (this.down) this.move(to);
          this.cursor = to;
        } else if (event.key === " ") {
          if (!this.down) this.press(this.cursor);
        } else return;
        event.preventDefault();
        this.placeRing();
      });
      canvas.addEventListener("keyup", (event) => {
        if (event.key === " ") this.down = null;
      });
      canvas.addEventListener("focus", () => this.placeRing());
      canvas.addEventListener("blur", () => ((this.ring.hidden = true), (this.down = null)));
    }

    placeRing() {
      this.ring.hidden = !this.canvas.matches(":focus-visible");
      this.ring.style.left = `${(100 * (this.cursor[0] + 0.5)) / this.size}%`;
      this.ring.style.top = `${(100 * (this.cursor[1] + 0.5)) / this.size}%`;
    }

    press(at) {
      this.painting.begin(BRUSHES[this.brush.value]);
      this.painting.line(at, at);
      this.down = at;
      this.changed();
    }

    move(to) {
      if (!BRUSHES[this.brush.value].stamp) this.painting.line(this.down, to);
      this.down = to;
      this.changed();
    }

    choosePart(k) {
      this.part.value = k;
      this.painting.show(...this.pictures[k]);
      this.changed();
    }

    train(name) {
      this.training = this.learned.value = name;
      this.showNetworks();
      this.changed();
    }

    trap() {
      const { part, training, row, column } = this.data.trap;
      this.choosePart(part);
      this.brush.value = "harmless mark";
      this.press([column, row]);
      this.down = null;
      this.train(training);
    }

    // One judgement at a time; a change during it leads to another one after it.
    async changed() {
      const pixels = this.painting.pixels();
      const count = this.size * this.size;
      draw(this.canvas, this.size, (i) => [pixels[i], pixels[count + i], pixels[2 * count + i]]);
      if (this.busy) return void (this.again = true);
      this.busy = true;
      do {
        this.again = false;
        await this.judge(this.painting.pixels());
      } while (this.again);
      this.busy = false;
    }

    async run(id, pixels) {
      const shape = [1, 3, this.size, this.size];
      const out = await this.sessions[id].run({
        images: new this.ort.Tensor("uint8", pixels, shape),
      });
      return {
        probability: Number(out.probability.data[0]),
        isDefective: Boolean(out.verdict.data[0]),
        "defect map": out.defect_map.data,
        evidence: out.evidence_map?.data,
      };
    }

    async judge(pixels) {
      const started = performance.now();
      const words = [];
      for (const network of this.shown()) {
        const out = await this.run(network.id, pixels);
        const panel = this.panels[network.id];
        if (!panel) continue; // another training was chosen meanwhile
        const verdict = out.isDefective ? "defective" : "normal";
        const probability = out.probability.toFixed(2);
        panel.box.dataset.verdict = verdict;
        panel.verdict.replaceChildren(
          element("b", {}, `${network.system}: ${verdict}`),
          ` p = ${probability}, threshold ${network.threshold.toFixed(2)}`
        );
        words.push(`${network.system}: ${verdict}, probability ${probability}.`);
        for (const [name, map] of Object.entries(panel.maps)) this.drawMap(map, name, out[name], network);
      }
      const took = Math.round(performance.now() - started);
      this.seconds.textContent = `Judged in ${took} ms, here in the page.`;
      clearTimeout(this.later);
      this.later = setTimeout(() => (this.spoken.textContent = words.join(" ")), 400);
    }

    drawMap(canvas, name, values, network) {
      const { size } = this;
      const colours = this.data.colours[name];
      const [low, high] = network.scales[name];
      const place = (v) => Math.max(0, Math.min(255, Math.floor((256 * (v - low)) / (high - low))));
      draw(canvas, size, (i) => colours[place(values[i])]);
      let peak = 0;
      values.forEach((v, i) => (peak = v > values[peak] ? i : peak));
      const [row, column] = [Math.floor(peak / size), peak % size];
      canvas.setAttribute(
        "aria-label",
        `${name} of ${network.system}: peak ${values[peak].toFixed(2)} in row ${row}, column ${column}`
      );
    }

    // The largest differences from what Python computed, over all stored parts and networks.
    async check() {
      let [largest, verdicts, count] = [0, 0, 0];
      for (const { id, expected } of this.data.networks)
        for (const [k, [base]] of this.pictures.entries()) {
          const out = await this.run(id, Uint8Array.from(base));
          const { probability, isDefective, ...maps } = expected[k];
          largest = Math.max(largest, Math.abs(out.probability - probability));
          for (const [name, samples] of Object.entries(maps))
            samples.forEach(([at, v]) => (largest = Math.max(largest, Math.abs(out[name][at] - v))));
          verdicts += Number(out.isDefective !== isDefective);
          count += 1;
        }
      this.spoken.textContent =
        `${count} judgements compared with Python: ${verdicts} other verdicts, ` +
        `largest difference ${largest.toExponential(1)}.`;
      this.root.dataset.checked = JSON.stringify({ count, verdicts, largest });
    }
  }

  async function open(root) {
    const given = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    for (const src of given.scripts) document.head.append(element("script", { src }));
    try {
      await new Page(root, given.scripts.length ? await wait("paintParts") : given).start();
    } catch (error) {
      root.dataset.state = "failed";
      root.append(element("p", {}, `The networks can't run in this browser: ${error.message}`));
    }
  }

  // Runtime, networks and parts, ten megabytes, are fetched once the reader comes near.
  function start() {
    const near = new IntersectionObserver(
      (entries) => {
        for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
          near.unobserve(target);
          open(target);
        }
      },
      { rootMargin: "400px" }
    );
    for (const root of document.querySelectorAll(".paint")) near.observe(root);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
