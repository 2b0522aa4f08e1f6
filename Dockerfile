# Two stages: the first builds and takes apart, the second holds what is needed to run and nothing else: no shell, no
# pip, no compiler, no package manager. docs/containers.md tells how it is run, and how big it is.
#
# The tag is exact. Whoever wants the same bytes for ever adds the digest that `docker pull` prints:
#     docker build --build-arg BASE=python:3.13.9-slim-bookworm@sha256:... .
ARG BASE=python:3.13.9-slim-bookworm
FROM ${BASE} AS build

# [apprise] for Telegram, e-mail, Slack.
ARG EXTRAS=""
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src

# Built by nobody: what builds the package, and the package itself, run no code as root.
RUN chown -R nobody:nogroup /src && install -d -o nobody -g nogroup /wheel \
    && setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/tmp \
        python3 -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheel /src

# The versions that are tested, and nothing compiled: a library without a wheel fails here, and not on a customer's
# machine. Without pip of its own: the base's installs into it.
RUN python3 -m venv --without-pip /opt/shop-poller \
    && python3 -m pip --python /opt/shop-poller/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: -c constraints.txt "$(echo /wheel/shop_poller-*.whl)${EXTRAS}" \
    && find /opt/shop-poller -type d -name tests -prune -exec rm -rf {} +

# Python, without what only developers use; its modules are compiled, since nothing can be written where it runs.
# hadolint ignore=DL3003
RUN version="$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')" \
    && mkdir -p /image/usr/local/bin /image/usr/local/lib /image/opt \
    && cp -a "/usr/local/bin/${version}" /usr/local/bin/python3 /image/usr/local/bin/ \
    && cp -a "/usr/local/lib/${version}" /image/usr/local/lib/ \
    && cp -a /opt/shop-poller /image/opt/ \
    && cd "/image/usr/local/lib/${version}" \
    && rm -rf site-packages test idlelib tkinter turtledemo turtle.py ensurepip lib2to3 pydoc_data pydoc.py config-* \
        lib-dynload/*test* lib-dynload/_tkinter* \
    && find /image -type d \( -name __pycache__ -o -name test -o -name tests -o -name idle_test \) -prune -exec rm -rf {} + \
    && find /image -name '*.a' -delete \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /image "/image/usr/local/lib/${version}" /image/opt

# The shared libraries that these ask for, certificates, and a user that owns nothing but the state.
RUN { find /image -type f \( -name '*.so*' -o -path '/image/usr/local/bin/*' \) -exec ldd {} + 2>/dev/null || true; } \
        | grep -oE '(=> )?/[^ ]+' | sed 's/^=> //' | grep -E '\.so' | sort -u | grep -v '^/image' \
        | xargs -I{} cp -L --parents {} /image/ \
    && mkdir -p /image/etc/ssl/certs /image/tmp /image/var/lib/shop-poller \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'shop-poller:x:10001:10001::/var/lib/shop-poller:/nonexistent' > /image/etc/passwd \
    && echo 'shop-poller:x:10001:' > /image/etc/group \
    && chmod 1777 /image/tmp \
    && chown 10001:10001 /image/var/lib/shop-poller && chmod 0700 /image/var/lib/shop-poller \
    && mkdir -p /image/usr/lib && find /image/usr/local/lib -maxdepth 1 -name 'libpython*' -printf '../local/lib/%f\n' \
        | xargs -r -I{} ln -s {} /image/usr/lib/

FROM scratch

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="shop-poller" \
      org.opencontainers.image.description="Watches a WooCommerce shop and tells people what happened to their orders." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /image/ /

# Other containers ask for metrics and health, so it listens on every address of this one; what of it can be reached
# from outside is said where it is run. The state is where STATE_DIRECTORY says, as under systemd.
ENV PATH=/opt/shop-poller/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    STATE_DIRECTORY=/var/lib/shop-poller \
    SHOP_HTTP_LISTEN=0.0.0.0:9108

VOLUME /var/lib/shop-poller
WORKDIR /var/lib/shop-poller
# By number: Kubernetes can see that this is not root.
USER 10001:10001
# Whatever was forgotten above shows here, and not where it is run.
RUN ["shop-poller", "--version"]
EXPOSE 9108
# SIGTERM reaches Python itself, which is process 1: there is no shell between. It takes up to 30 s to end in good order.
STOPSIGNAL SIGTERM
# "Healthy" is that it polls: five minutes of a shop's outage make it unhealthy, which restarts nothing by itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["shop-poller", "healthy"]
ENTRYPOINT ["shop-poller"]
CMD ["run"]
