// Takes a picture of every state of the page, in both themes and at both widths, to be looked at by people.
// Usage: node e2e/screens.mjs FOLDER
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { browser, serve, saveIntoPrivateStorage } from './browser.mjs';
import { choose, memoryFile, pickType, safetensorsHeader, showView, sparseModel, sweepDone } from './page.mjs';

const out = process.argv[2] ?? 'screens';
const SIZES = [
  [1440, 900],
  [390, 844],
];

async function states(page, shot) {
  await shot('1-start');
  await page.getByRole('button', { name: /^Compute/ }).click();
  await page.getByRole('button', { name: 'Self-test and measure' }).click();
  await page.getByText('Measured in').waitFor({ timeout: 120_000 });
  await shot('1-engines');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Open the sample model' }).click();
  await sweepDone(page);
  await shot('2-overview');
  for (const view of ['Map', 'Metadata', 'Tensors']) {
    await showView(page, view);
    await shot(`2-${view.toLowerCase()}`);
  }
  await page.getByRole('combobox', { name: 'Groups' }).selectOption('pattern');
  await shot('2-patterns');
  await page.getByRole('combobox', { name: 'Groups' }).selectOption('none');
  await page.getByRole('searchbox').fill('q_proj');
  await page.locator('.grid-row').first().click();
  await page.getByText('Quantization error by type', { exact: true }).waitFor();
  await shot('3-tensor');
  await page.getByRole('radio', { name: 'Full' }).check();
  await page.getByRole('columnheader', { name: 'SQNR gain (dB)' }).waitFor();
  await page.getByRole('heading', { name: 'Hadamard rotation (QuaRot)' }).scrollIntoViewIfNeeded();
  await shot('3-rotated');
  await page.getByRole('button', { name: 'Quantize', exact: true }).click();
  await page.getByText('Output size (exact)').waitFor();
  await shot('4-quantize');
  await page.getByRole('button', { name: 'Quantize and save' }).click();
  await page.locator('.job-saved').waitFor();
  await shot('5-saved');
  await page.getByRole('radio', { name: 'Lattice' }).check();
  await page.locator('.plan-result[aria-busy=false]').waitFor();
  await shot('6-q4');
  await page.getByRole('radio', { name: 'GGUF' }).check();
  await page.locator('.plan-result[aria-busy=false]').waitFor();
  await page.getByRole('button', { name: 'Quantize and save' }).click();
  await page.getByRole('button', { name: 'Compare with the source' }).click();
  await page.getByRole('grid', { name: 'Compared tensors' }).waitFor();
  await shot('7-compare');
  await page.getByRole('spinbutton').fill('0.9999');
  await page.getByRole('spinbutton').blur();
  await page.locator('.verdicts.bad').waitFor();
  await shot('8-gate');
  const foreign = safetensorsHeader([
    ['model.norm.weight', 'F32', [7], 28],
    ['stranger', 'F32', [2], 8],
  ]);
  await choose(page, [memoryFile('other.safetensors', Buffer.concat([foreign.header, Buffer.alloc(foreign.data)]))]);
  await page.getByRole('heading', { name: 'Differences in structure' }).waitFor();
  await shot('9-findings');
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), open(page)]);
  await chooser.setFiles({
    name: 'broken.safetensors',
    mimeType: '',
    buffer: Buffer.from('\u0010\0\0\0\0\0\0\0{"a":[1,2,3]}   '),
  });
  await page.getByRole('alert').waitFor();
  await shot('10-refused');
  await choose(page, [large]);
  await showView(page, 'Tensors');
  await page.locator('.grid-row').first().click();
  await page.getByText('Measuring').first().waitFor();
  await shot('11-reading');
  await page.getByRole('button', { name: 'Quantize', exact: true }).click();
  await page.getByRole('button', { name: 'Quantize and save' }).click();
  await page.getByText(/\/s, about/).waitFor();
  await shot('12-running');
  await pickType(page, 'Q8_0');
  await page.locator('.plan-result[aria-busy=false]').waitFor();
  await page.getByRole('button', { name: 'Quantize and save' }).click();
  await page.getByRole('button', { name: /^Cancel .*q8_0/ }).waitFor();
  await shot('13-waiting');
  await page.getByRole('button', { name: 'Open another' }).click();
  await page.getByRole('alertdialog').waitFor();
  await shot('14-question');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: /^Cancel .*q8_0/ }).click();
  await page.getByRole('button', { name: /^Cancel / }).click();
  await page.getByText('Cancelled. No file was written.').waitFor();
  await shot('15-stopped');
}

async function open(page) {
  await page.getByRole('button', { name: 'Open another' }).click();
  await page.getByRole('button', { name: 'Choose files' }).click();
}

mkdirSync(out, { recursive: true });
const large = join(out, 'large-model.safetensors');
sparseModel(large, 25);
const server = await serve();
for (const colorScheme of ['light', 'dark']) {
  for (const [width, height] of SIZES) {
    const { context, close } = await browser({ webgpu: true, colorScheme, viewport: { width, height } });
    const page = context.pages()[0];
    await saveIntoPrivateStorage(page);
    await page.goto(server.url);
    await page.evaluate(() => document.fonts.ready);
    await states(page, async (name) => {
      await page.waitForTimeout(150);
      await page.screenshot({ path: join(out, `${name}-${colorScheme}-${width}.png`), fullPage: width < 500 });
    });
    await close();
  }
}
await server.close();
rmSync(large);
