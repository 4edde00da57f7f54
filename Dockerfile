# The daemon as an image: production dependencies only, a user without rights, nothing to write but the volume of its state.
#
#   docker build -t rotated .
#   docker run --read-only --tmpfs /tmp --cap-drop=ALL --security-opt=no-new-privileges \
#     -v rotated:/var/lib/rotated -v ./schedules:/etc/rotated/schedules:ro rotated
#
# A company with a certificate authority of its own hands it in, for the build and for the running daemon:
#   docker build --build-arg NODE_EXTRA_CA_CERTS=/ca/company.crt --build-arg NPM_CONFIG_CAFILE=/ca/company.crt …
#   docker run -e NODE_EXTRA_CA_CERTS=/ca/company.crt -v ./company.crt:/ca/company.crt:ro …
# (the file must be readable while building, in the base image or by a mount of the builder).
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS build
ARG NODE_EXTRA_CA_CERTS
ARG NPM_CONFIG_CAFILE
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# --force: a development dependency carries a Node for one platform only, which npm would refuse on another; the build uses the image's own.
RUN npm ci --force --ignore-scripts
COPY . .
RUN node scripts/build.ts

FROM ${NODE_IMAGE} AS dependencies
ARG NODE_EXTRA_CA_CERTS
ARG NPM_CONFIG_CAFILE
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts && rm -f .npmrc package-lock.json

FROM ${NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app ./
COPY --from=build /build/dist ./dist
COPY bin ./bin
# 65532 has no name in the image, owns nothing but its state, and is what Kubernetes' runAsNonRoot can check without asking.
RUN mkdir -p /etc/rotated/schedules /var/lib/rotated \
 && chown 65532:65532 /var/lib/rotated && chmod 0700 /var/lib/rotated \
 && ln -s /app/bin/rotated.js /usr/local/bin/rotated \
 && ln -s /app/bin/rotate.js /usr/local/bin/rotate
USER 65532:65532
VOLUME /var/lib/rotated
