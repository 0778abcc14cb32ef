// What is wrong for somebody who cannot see the page, or not well, or has only a keyboard: a list of sentences. The
// rules are those of WCAG 2.2, levels A and AA, that a program can judge.
(() => {
  const problems = [];
  const all = (query) => Array.from(document.querySelectorAll(query));
  const said = (element) => element.outerHTML.slice(0, 120);
  const isShown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  // 3.1.1, 2.4.2, 1.4.4
  if (!/^[a-z]{2}/.test(document.documentElement.lang)) problems.push("the language is not named");
  if (!document.title.trim()) problems.push("there is no title");
  const viewport = document.querySelector("meta[name=viewport]");
  if (/user-scalable\s*=\s*no|maximum-scale/.test(viewport ? viewport.content : "")) problems.push("it cannot be enlarged");

  // 4.1.1 of WCAG 2.0, which labels depend on
  const ids = all("[id]").map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) problems.push(`the id ${id} is there twice`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"])
    for (const element of all(`[${attribute}]`))
      for (const id of element.getAttribute(attribute).split(/\s+/))
        if (!document.getElementById(id)) problems.push(`${attribute}=${id} leads nowhere`);

  // 1.3.1: headings begin with one of level 1 and skip no level.
  let level = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) problems.push(`a heading of level ${next} follows one of level ${level}: ${said(heading)}`);
    level = next;
  }
  for (const th of all("th")) if (!th.scope) problems.push(`a heading of a table has no scope: ${said(th)}`);
  for (const list of all("ul, ol"))
    for (const item of list.children) if (item.tagName !== "LI") problems.push(`not an item of a list: ${said(item)}`);

  // 2.1.1, 2.4.3: no order but that of the document.
  for (const element of all("[tabindex]")) if (element.tabIndex > 0) problems.push(`it has an order of its own: ${said(element)}`);
  for (const element of all("[aria-hidden=true] a, [aria-hidden=true] button, [aria-hidden=true] input"))
    problems.push(`it is hidden, and can be reached: ${said(element)}`);

  // 1.4.3: contrast.
  const parsed = (colour) => {
    const numbers = colour.match(/[\d.]+/g).map(Number);
    return { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
  };
  const over = (front, back) => front.rgb.map((part, place) => part * front.alpha + back[place] * (1 - front.alpha));
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  const background = (element) => {
    if (!element) return canvas;
    const own = parsed(getComputedStyle(element).backgroundColor);
    return own.alpha >= 1 ? own.rgb : over(own, background(element.parentElement));
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  let texts = 0;
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const element = words.currentNode.parentElement;
    if (!words.currentNode.data.trim() || !isShown(element)) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const back = background(element);
    const ratio = contrast(over(parsed(style.color), back), back);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) problems.push(`the contrast is ${ratio.toFixed(2)}: ${said(element)}`);
  }
  if (texts < 5) problems.push("there is hardly any text");

  // 1.4.11: the edge of a field.
  for (const field of all("input, button")) {
    const style = getComputedStyle(field);
    const around = background(field.parentElement);
    const edge = Math.max(contrast(parsed(style.borderTopColor).rgb, around), contrast(background(field), around));
    if (edge < 3) problems.push(`the edge of a field has a contrast of ${edge.toFixed(2)}: ${said(field)}`);
  }

  // 2.5.8: what is no part of a sentence is large enough to be hit.
  for (const target of all("nav a, button, input")) {
    const { width, height } = target.getBoundingClientRect();
    if (width < 24 || height < 24) problems.push(`it is ${width} by ${height} pixels: ${said(target)}`);
  }
  return problems;
})()
