"use strict";
// Searches the names in names.js as `kb search` does: folded spelling, word order, typing errors,
// abbreviations written out and plain words for learned ones; last, rare words of definitions.
// Names come from entries that anybody may have written: they only ever become text nodes.
(() => {
  const WHOLE = { grey: "gray", centre: "center", fibre: "fiber", fibres: "fiber", litre: "liter",
    i: "1", ii: "2", iii: "3", iv: "4", v: "5", vi: "6", vii: "7", viii: "8", ix: "9", x: "10",
    xi: "11", xii: "12" };
  const FILLERS = new Set(["of", "the", "in", "on", "and", "with", "to", "at", "by", "for",
    "within"]);
  const SIDES = new Set(["left", "right", "bilateral"]);
  const SHOWN = 12;

  function fold(text) {
    const words = text.toLowerCase().replace(/æ/g, "e").replace(/œ/g, "e").replace(/ß/g, "ss")
      .replace(/['’]s\b/g, "").normalize("NFKD").replace(/\p{M}/gu, "")
      .split(/[^0-9a-z]+/).filter(Boolean).map((word) => {
        if (Object.hasOwn(WHOLE, word)) return WHOLE[word];
        const plain = word.replace(/ae/g, "e").replace(/oe/g, "e");
        return plain.length >= 5 && /ours?$/.test(plain) ? plain.replace(/our/g, "or") : plain;
      });
    const content = words.filter((word) => !FILLERS.has(word));
    return content.length ? content : words;
  }

  // Typing errors between two words: insertions, deletions, replacements, swapped neighbours.
  function distance(a, b, most) {
    if (Math.abs(a.length - b.length) > most) return most + 1;
    let before = [], last = [], row = [...Array(b.length + 1).keys()];
    for (let i = 1; i <= a.length; i++) {
      before = last; last = row; row = [i];
      for (let j = 1; j <= b.length; j++) {
        row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] !== b[j - 1]));
        if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
          row[j] = Math.min(row[j], before[j - 2] + 1);
        }
      }
    }
    return row[b.length];
  }

  function alike(asked, word) {
    if (asked === word) return 1;
    const longer = Math.max(asked.length, word.length);
    let score = 1 - distance(asked, word, Math.ceil(longer * 0.4)) / longer;
    if (asked.length >= 3 && word.startsWith(asked)) {
      score = Math.max(score, 0.8 + 0.2 * asked.length / word.length);
    }
    return score >= 0.6 || (score >= 0.5 && asked.length <= 4) ? score : 0;
  }

  const writtenOut = new Map();
  const entries = NAMES.map(([id, kind, names, short]) => ({
    id, kind, name: names[0],
    names: names.map((name) => ({ name, words: fold(name), joined: fold(name).join("") })),
  }));
  NAMES.forEach(([, , , short], n) => short.forEach((name) => {
    const word = fold(name).join(" ");
    writtenOut.set(word, [...(writtenOut.get(word) || []), entries[n].names[0].words]);
  }));
  const vocabulary = [...new Set(entries.flatMap((e) => e.names.flatMap((n) => n.words)))];

  // The query with one word replaced by what it stands for or by one that says the same.
  function oneReplaced(words) {
    return words.flatMap((word, n) => [
      ...(Object.hasOwn(SAME, word) ? SAME[word].map((other) => [other]) : []),
      ...(words.length > 1 ? writtenOut.get(word) || [] : []),
    ].map((other) => [...new Set([...words.slice(0, n), ...other, ...words.slice(n + 1)])]));
  }

  function search(text) {
    const words = fold(text.slice(0, 200)).slice(0, 12);
    if (!words.length) return [];
    const plain = words.filter((word) => !SIDES.has(word));
    const query = plain.length ? plain : words;
    const best = new Map();
    match(words, 1, best);
    if (query.length < words.length) match(query, 0.98, best);
    const top = () => Math.max(0, ...[...best.values()].map((hit) => hit.score));
    if (top() < 0.95) {
      const once = oneReplaced(query);
      const tried = new Set([query.join(" ")]);
      for (const wording of [...once, ...once.flatMap(oneReplaced)]) {
        const key = wording.join(" ");
        if (tried.has(key) || tried.size > 6) continue;
        tried.add(key);
        match(wording, 0.97, best);
      }
    }
    if (top() < 0.85) {
      for (const word of query) {
        const entry = Object.hasOwn(RARE, word) ? entries[RARE[word]] : null;
        if (entry && (best.get(entry)?.score || 0) < 0.7) {
          best.set(entry, { entry, score: 0.7, name: entry.name });
        }
      }
    }
    return [...best.values()].sort((a, b) => b.score - a.score
      || a.entry.name.length - b.entry.name.length || (a.entry.id < b.entry.id ? -1 : 1))
      .slice(0, SHOWN);
  }

  // Adds the entries whose names fit the words to `best`: entry -> { entry, score, name }.
  function match(asked, factor, best) {
    const near = asked.map((word) => {
      const found = new Map();
      for (const other of vocabulary) {
        const score = alike(word, other);
        if (score) found.set(other, score);
      }
      return found;
    });
    const joined = asked.join("");
    const most = Math.floor(joined.length / 4);
    for (const entry of entries) {
      for (const { name, words: own, joined: whole } of entry.names) {
        let score = 0;
        if (whole === joined) {
          score = name === entry.name ? 1 : 0.98;
        } else {
          let covered = 0, length = 0;
          asked.forEach((word, n) => {
            length += word.length;
            covered += word.length * Math.max(0, ...own.map((o) => near[n].get(o) || 0));
          });
          let named = 0, total = 0;
          for (const word of own) {
            total += word.length;
            named += word.length * Math.max(0, ...near.map((found) => found.get(word) || 0));
          }
          score = 0.97 * (0.72 * covered / length + 0.28 * named / (total || 1));
          const errors = most ? distance(joined, whole, most) : 1;
          if (errors <= most) {
            score = Math.max(score, 0.98 * (1 - errors / Math.max(joined.length, whole.length)));
          }
          if (/^[^a-z]{2,6}$/.test(name)) score = Math.min(score, 0.55);
        }
        score *= factor;
        const known = best.get(entry);
        if (score >= 0.45 && (!known || score > known.score)) {
          best.set(entry, { entry, score, name });
        }
      }
    }
  }

  const box = document.getElementById("q");
  const list = document.getElementById("found");
  const root = document.body.dataset.root || "";
  let chosen = -1;

  function show() {
    const hits = search(box.value);
    chosen = -1;
    list.replaceChildren(...hits.map(({ entry, name }) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `${root}entries/${encodeURIComponent(entry.id)}.html`;
      const label = document.createElement("span");
      label.textContent = entry.name;
      const small = document.createElement("small");
      small.textContent = name === entry.name ? entry.kind : name;
      link.append(label, small);
      item.append(link);
      return item;
    }));
    if (!hits.length && box.value.trim()) {
      const item = document.createElement("li");
      item.className = "nothing";
      item.textContent = "Nothing resembles that.";
      list.append(item);
    }
    list.hidden = false;
  }

  box.addEventListener("input", show);
  box.addEventListener("focus", () => { if (box.value) show(); });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) list.hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")];
    if (event.key === "/" && document.activeElement !== box) {
      event.preventDefault();
      box.focus();
    } else if (document.activeElement !== box) {
      return;
    } else if (event.key === "Escape") {
      list.hidden = true;
    } else if (event.key === "Enter" && links.length) {
      location.href = links[Math.max(chosen, 0)].href;
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && links.length) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      chosen = (chosen + step + links.length) % links.length;
      links.forEach((link, n) => link.setAttribute("aria-selected", String(n === chosen)));
      links[chosen].scrollIntoView({ block: "nearest" });
    }
  });
  const asked = new URLSearchParams(location.search).get("q");
  if (asked) {
    box.value = asked;
    show();
  }
})();
