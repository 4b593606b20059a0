// What a reader needs, measured in the page as it is shown; the value of each function is what is wrong.
const measure = {
  parse(colour) {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return { channels: [red, green, blue], alpha };
  },

  luminance(channels) { // WCAG 2.2, relative luminance
    const [red, green, blue] = channels.map((one) => {
      const share = one / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  },

  behind(element) {
    for (let one = element; one; one = one.parentElement) {
      const { channels, alpha } = this.parse(getComputedStyle(one).backgroundColor);
      if (alpha === 1) return channels;
      if (alpha > 0) throw new Error(`a background that shines through: ${one.outerHTML.slice(0, 80)}`);
    }
    return this.parse(getComputedStyle(document.documentElement).backgroundColor).channels;
  },

  contrast(colour, element) {
    const both = [this.parse(colour).channels, this.behind(element)].map((one) => this.luminance(one));
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  },

  tooFaint() {
    const faint = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || element.closest("script, .unseen, .skip:not(:focus)")) continue;
      const style = getComputedStyle(element);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const found = this.contrast(style.color, element);
      if (found < (large ? 3 : 4.5)) faint.push(`${texts.currentNode.data.trim()}: ${found.toFixed(2)}`);
    }
    for (const path of document.querySelectorAll(".day rect, .bar rect:not(.rail)")) {
      const found = this.contrast(getComputedStyle(path).fill, path.closest("#day, .wide"));
      if (found < 3 && !path.closest(".none")) faint.push(`${path.outerHTML.slice(0, 60)}: ${found.toFixed(2)}`);
    }
    for (const path of document.querySelectorAll(".spark")) {
      const found = this.contrast(getComputedStyle(path).stroke, path.closest(".wide"));
      if (found < 3) faint.push(`sparkline: ${found.toFixed(2)}`);
    }
    for (const path of document.querySelectorAll(".plot path")) {
      const found = this.contrast(getComputedStyle(path).fill, path.closest(".card"));
      if (found < 3) faint.push(`plot ${path.className.baseVal}: ${found.toFixed(2)}`);
    }
    return faint;
  },

  tooWide() {
    const wide = document.documentElement.clientWidth;
    const over = [...document.querySelectorAll("body *:not(.skip, .unseen)")].filter(
      (one) => one.getBoundingClientRect().right > wide + 0.5);
    return [
      ...(document.documentElement.scrollWidth > wide ? [`scrolls to ${document.documentElement.scrollWidth}`] : []),
      ...over.map((one) => one.outerHTML.slice(0, 80)),
    ];
  },

  tooSmall() { // WCAG 2.2, target size (minimum): 24 pixels, but not for links inside a sentence
    const targets = [...document.querySelectorAll("button, summary, nav a, h2 a")];
    return targets.filter((one) => one.getBoundingClientRect().height < 24).map((one) => one.outerHTML.slice(0, 80));
  },
};
