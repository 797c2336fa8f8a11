import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()], // which also resolves React once, though assistly-client is linked from a folder with its own
});
