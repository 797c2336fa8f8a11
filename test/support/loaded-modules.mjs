// Imported into a process (`NODE_OPTIONS=--import=…`): when it ends, it writes down the URL of every module that it
// has loaded, by `import` or by `require`, into the file that LOADED_MODULES names.
import { writeFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

/** @type {string[]} */
const urls = [];
registerHooks({
  load(url, context, nextLoad) {
    urls.push(url);
    return nextLoad(url, context);
  },
});
process.on('exit', () => writeFileSync(process.env.LOADED_MODULES ?? '', urls.join('\n')));
