// What a worker is compared with: as many answers at once, read by the `openai` package and thrown away.
import { askByPackage } from './floor-calls.mjs';
import { input, ready } from './program.mjs';

const { modelUrl } = input();
const messages = [{ role: 'user', content: 'When are you open on Saturday, and is there rye bread?' }];

ready({}, async ({ model, count }) => {
  await Promise.all(Array.from({ length: count }, () => askByPackage(modelUrl, model, messages)));
  return {};
});
