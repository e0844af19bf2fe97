// Workers that are bound by the policy of the page.

/**
 * A worker that is fetched takes its policy from its own response headers, which a static host does not send.
 * One that starts from a blob inherits the policy of its creator, so `connect-src 'self'` binds it everywhere.
 */
export function startWorker(url: string, name: string): Worker {
  const source = URL.createObjectURL(new Blob([`import ${JSON.stringify(url)};`], { type: 'text/javascript' }));
  return new Worker(source, { type: 'module', name });
}
