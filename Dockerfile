# The daemon as an image: production dependencies only, a user without rights, nothing to write but the volume of its state.
#
#   docker build -t rotated .
#   docker run --read-only --tmpfs /tmp --cap-drop=ALL --security-opt=no-new-privileges \
#     -v rotated:/var/lib/rotated -v rotated-key:/var/lib/rotated-key -v ./schedules:/etc/rotated/schedules:ro rotated
#
# A company with a certificate authority of its own hands it in for the build, and again for the running daemon:
#   docker build --secret id=ca,src=company.pem \
#     --build-arg NODE_EXTRA_CA_CERTS=/run/secrets/ca --build-arg NPM_CONFIG_CAFILE=/run/secrets/ca -t rotated .
#   docker run -v ./company.pem:/etc/rotated/ca.pem:ro -e NODE_EXTRA_CA_CERTS=/etc/rotated/ca.pem … rotated
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS build
ARG NODE_EXTRA_CA_CERTS
ARG NPM_CONFIG_CAFILE
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# --force: one development dependency is a Node for one platform, which npm refuses on another; here the image's own Node builds.
RUN --mount=type=secret,id=ca npm ci --force --ignore-scripts
COPY . .
RUN node scripts/build.ts

FROM ${NODE_IMAGE} AS dependencies
ARG NODE_EXTRA_CA_CERTS
ARG NPM_CONFIG_CAFILE
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=secret,id=ca npm ci --omit=dev --ignore-scripts && rm .npmrc package-lock.json

FROM ${NODE_IMAGE}
# `docker exec … rotate status` finds the same places by these.
ENV NODE_ENV=production \
    ROTATED_STATE=/var/lib/rotated \
    ROTATED_POLICIES=/etc/rotated/schedules \
    ROTATED_KEY_FILE=/var/lib/rotated-key/key
WORKDIR /app
COPY --from=dependencies /app ./
COPY --from=build /build/dist ./dist
COPY bin ./bin
# 65532 has no name in the image and owns nothing but the two volumes; a number, so that runAsNonRoot can be checked.
# The key lives apart from what it seals: a copy of the state alone opens nothing.
RUN mkdir -p /etc/rotated/schedules /var/lib/rotated /var/lib/rotated-key \
 && chown 65532:65532 /var/lib/rotated /var/lib/rotated-key \
 && chmod 0700 /var/lib/rotated /var/lib/rotated-key \
 && ln -s /app/bin/rotated.js /usr/local/bin/rotated \
 && ln -s /app/bin/rotate.js /usr/local/bin/rotate
USER 65532:65532
VOLUME ["/var/lib/rotated", "/var/lib/rotated-key"]
# Health and metrics stay on loopback, since metrics name the secrets; for a Prometheus elsewhere: … rotated --listen 0.0.0.0:9464
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9464/healthz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# The exec form: node itself is process 1 and gets SIGTERM. --disable-sigusr1: that signal would open a debugger.
ENTRYPOINT ["node", "--disable-sigusr1", "/app/bin/rotated.js"]
CMD ["--listen", "127.0.0.1:9464"]
