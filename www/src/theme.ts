// Light, dark, or whatever the system says. The style sheet uses `light-dark()`, so one attribute is all there is.
import { h } from './dom';

const KEY = 'quantoscope-theme';
type Theme = 'auto' | 'light' | 'dark';
const ORDER: readonly Theme[] = ['auto', 'light', 'dark'];
const LABEL: Record<Theme, string> = { auto: 'System', light: 'Light', dark: 'Dark' };

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'auto';
  } catch {
    // Storage may be switched off; the system's choice is a good one.
    return 'auto';
  }
}

function apply(theme: Theme): void {
  if (theme === 'auto') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // As above.
  }
  window.dispatchEvent(new Event('themechange'));
}

/** Calls `redraw` whenever colours change: canvases hold pixels, not variables. */
export function onThemeChange(redraw: () => void): void {
  window.addEventListener('themechange', redraw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
}

export function themeButton(): HTMLElement {
  let theme = stored();
  apply(theme);
  const word = h('span', {});
  const button = h('button', { type: 'button', class: 'quiet theme', title: 'Theme: System, Light or Dark' });
  const show = () => {
    word.textContent = `Theme: ${LABEL[theme]}`;
    button.setAttribute('aria-label', `Theme: ${LABEL[theme]}. Change`);
  };
  button.append(h('span', { class: 'theme-dot', 'aria-hidden': 'true' }), word);
  button.addEventListener('click', () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length] ?? 'auto';
    apply(theme);
    show();
  });
  show();
  return button;
}
