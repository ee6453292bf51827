// Run in the page by tests/it/report_page.rs: what is wrong with how it is laid out, and what is there.
(() => {
  const problems = [];
  const near = 0.75; // Boxes are measured in fractions of a pixel; letters' edges are not.
  const shown = (box) => box.width > 0 && box.height > 0;
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) {
    problems.push(`the page is ${document.documentElement.scrollWidth} wide on a screen of ${width}`);
  }

  const charts = [];
  for (const figure of document.querySelectorAll("figure")) {
    const visible = [...figure.querySelectorAll("svg.chart")].filter((svg) =>
      shown(svg.getBoundingClientRect()));
    if (visible.length !== 1) {
      problems.push(`${figure.id} shows ${visible.length} charts`);
      continue;
    }
    const svg = visible[0];
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")];
    const boxes = texts.map((text) => [text.textContent.trim(), text.getBoundingClientRect()]);
    const px = parseFloat(getComputedStyle(texts[0]).fontSize) * frame.width / svg.viewBox.baseVal.width;
    if (px < 11) problems.push(`${figure.id}: text of ${px.toFixed(1)} px`);
    for (const [text, box] of boxes) {
      if (box.left < frame.left - near || box.right > frame.right + near ||
          box.top < frame.top - near || box.bottom > frame.bottom + near) {
        problems.push(`${figure.id}: "${text}" is over the edge`);
      }
    }
    boxes.forEach(([one, a], index) => {
      for (const [other, b] of boxes.slice(index + 1)) {
        if (a.left < b.right - near && b.left < a.right - near &&
            a.top < b.bottom - near - 2 && b.top < a.bottom - near - 2) {
          problems.push(`${figure.id}: "${one}" overlaps "${other}"`);
        }
      }
    });
    for (const shape of svg.querySelectorAll("line, polyline, rect, circle, polygon")) {
      const box = shape.getBoundingClientRect();
      if (box.left < frame.left - 3 || box.right > frame.right + 3 ||
          box.top < frame.top - 3 || box.bottom > frame.bottom + 3) {
        problems.push(`${figure.id}: a ${shape.tagName} is over the edge`);
      }
    }
    const title = svg.querySelector("title");
    if (svg.getAttribute("role") !== "img" || !title || !title.textContent) {
      problems.push(`${figure.id} has no name`);
    }
    charts.push(figure.id);
  }

  // Text outside charts: no line of it leaves the screen, but for what scrolls in a frame of its own.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.textContent.trim() || node.parentElement.closest("svg, .scroll table, style")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (shown(box) && (box.left < -near || box.right > width + near)) {
        problems.push(`"${node.textContent.trim().slice(0, 40)}" leaves the screen`);
      }
    }
  }
  for (const frame of document.querySelectorAll(".scroll, pre, dl, section")) {
    const box = frame.getBoundingClientRect();
    if (box.left < -near || box.right > width + near) {
      problems.push(`${frame.className || frame.tagName} leaves the screen`);
    }
  }

  // Contrast of what is read with what it stands on (WCAG 2.2: 4.5 for text).
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map(Number).map((part) => {
      const c = part / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/rgba\(.*, 0\)|transparent/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = (one, other) => {
    const [a, b] = [luminance(one), luminance(other)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  for (const element of document.querySelectorAll("p, li, dt, dd, b, th, td, h1, h2, h3, code, caption, text")) {
    if (!shown(element.getBoundingClientRect())) continue;
    const style = getComputedStyle(element);
    const color = element.tagName === "text" ? style.fill : style.color;
    const found = contrast(color, ground(element));
    if (found < 4.5) {
      problems.push(`"${element.textContent.trim().slice(0, 30)}": contrast ${found.toFixed(1)}`);
    }
  }
  // And of shapes that carry meaning (3).
  for (let index = 3; index < 14; index += 1) {
    for (const shape of document.querySelectorAll(`.f${index}, .s${index}`)) {
      if (!shown(shape.getBoundingClientRect())) continue;
      const style = getComputedStyle(shape);
      const color = shape.classList.contains(`f${index}`) ? style.fill : style.stroke;
      const found = contrast(color, ground(shape));
      if (found < 3) problems.push(`class ${index}: contrast ${found.toFixed(1)}`);
    }
  }
  return {
    problems: [...new Set(problems)],
    charts,
    width: window.innerWidth,
    page: getComputedStyle(document.body).backgroundColor,
    height: document.documentElement.scrollHeight,
  };
})()
