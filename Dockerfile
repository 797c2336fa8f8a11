# One image for both roles: an api by default, a worker with the command "node dist/src/main.js worker", and the
# migrations with "node dist/src/cli/migrate.js". The version of Node.js is that of the npm package "node".
FROM node:24.21.0-bookworm-slim AS base
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json ./
COPY client/package.json ./client/package.json
COPY web/package.json ./web/package.json

# What runs in production. The optional packages are the embedded PostgreSQL, a Node.js of the project's own, and
# native code that has a plain JavaScript twin. No package runs a script of its own while it is installed.
FROM base AS dependencies
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

# The bundler's binary is an optional package, of this machine's kind.
FROM base AS build
RUN npm ci --include=dev --include=optional --ignore-scripts --no-audit --no-fund
COPY tsconfig.json nest-cli.json mikro-orm.config.ts ./
COPY src ./src
COPY client/tsconfig.json ./client/tsconfig.json
COPY client/src ./client/src
COPY web ./web
RUN npm run build

FROM base AS runtime
ENV HOST=0.0.0.0
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/web/dist ./web/dist
# With it "npm run db:migrate" and the other scripts find that there is nothing to install or to build.
COPY src/cli/setup.mjs ./src/cli/setup.mjs
# All else belongs to root. Here a process that is not in production keeps the keys that it makes for itself.
RUN mkdir .assistly && chown node:node .assistly
USER node
EXPOSE 3000 3001
# Whether to start it anew: only a process that does not answer gains by that, one whose database is away does not.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "dist/src/cli/health.js", "live"]
# Not through npm or a shell, which would keep SIGTERM to themselves.
CMD ["node", "dist/src/main.js", "api"]
